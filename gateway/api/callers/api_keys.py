"""A tenant's program calls by an API key: as owner of devices (organization) or as vendor of models (partner)."""

from starlette.requests import Request

from gateway.api.callers.authorization import api_key_scheme, presented_key
from gateway.api.principals import CallerKind, Grant, Principal
from gateway.permissions import KeyKind
from gateway.refusals import Unauthenticated
from gateway.services import Services
from gateway.stores.accounts import credentials
from schemas import ids


async def authenticate(services: Services, request: Request, kind: KeyKind) -> Principal:
    """The key that a request shows, with the role that it has in its organization."""
    presented = ids.present(presented_key(request))
    if presented is None or presented.kind != kind:
        raise Unauthenticated
    key = await credentials.live_api_key(services.postgres, presented.id, kind)
    if key is None or not ids.same(presented.digest, key.digest):
        raise Unauthenticated
    grant = Grant(key.organization_id, None, key.role)
    return Principal(f"key:{presented.id}", str(presented.id), key.organization_id, (grant,))


async def _organization_key(services: Services, request: Request) -> Principal:
    return await authenticate(services, request, "organization")


async def _partner_key(services: Services, request: Request) -> Principal:
    return await authenticate(services, request, "partner")


ORGANIZATION_KEY = CallerKind(
    principal=Principal,
    prove=_organization_key,
    schemes={"organization": api_key_scheme("An organization key, `fgo_…`.")},
    limited=False,
    exact=True,
)
PARTNER_KEY = CallerKind(
    principal=Principal,
    prove=_partner_key,
    schemes={"partner": api_key_scheme("A partner key, `fgp_…`.")},
    limited=False,
    exact=True,
)
