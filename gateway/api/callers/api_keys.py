"""A tenant's program calls by an API key: as owner of devices (organization) or as vendor of models (partner)."""

from starlette.requests import Request

from gateway.api import call_pace
from gateway.api.callers.authorization import api_key_scheme, presented_key
from gateway.api.doors import Door
from gateway.api.principals import CallerKind, Grant, Principal
from gateway.api.scopes import FleetScope, OrganizationScope, VendorScope
from gateway.permissions import KeyKind
from gateway.refusals import Unauthenticated
from gateway.services import Services
from gateway.stores.accounts import credentials, key_use
from schemas import ids, keys
from schemas.constant_time import same_bytes

CALLS_WINDOW_S = 5
UNAUTHENTICATED: dict[KeyKind, str] = {
    "organization": "Authenticate with an organization key, fgo_…, in the header Authorization",
    "partner": "Authenticate with a partner key, fgp_…, in the header Authorization",
}

EXPIRED = "This API key expired at {:%Y-%m-%d %H:%M} UTC: make another one"


async def authenticate(services: Services, request: Request, kind: KeyKind) -> Principal:
    """The key that a request shows, with the role that it has in its organization.

    Raises Unauthenticated, or TooMany when it calls too often.
    """
    presented = ids.present(presented_key(request))
    if presented is None or presented.kind != kind:
        raise Unauthenticated(UNAUTHENTICATED[kind])
    key = await credentials.live_api_key(services.postgres, presented.id, kind)
    if key is None or not same_bytes(presented.digest, key.digest):
        raise Unauthenticated(UNAUTHENTICATED[kind])
    now = services.clock()
    if key.expires_at is not None and key.expires_at <= now:
        raise Unauthenticated(EXPIRED.format(key.expires_at))
    key_of_calls = keys.of_caller(services.shards, "key", str(presented.id))
    await call_pace.take_turn(
        services, key_of_calls, calls_max=services.settings.api_key_calls_max, window_s=CALLS_WINDOW_S
    )
    await key_use.note(services.postgres, "api_keys", presented.id, key.last_used_at, now)
    grant = Grant(key.organization_id, None, key.role)
    return Principal(f"key:{presented.id}", str(presented.id), key.organization_id, (grant,), key.expires_at)


async def _organization_key(services: Services, request: Request) -> Principal:
    return await authenticate(services, request, "organization")


async def _partner_key(services: Services, request: Request) -> Principal:
    return await authenticate(services, request, "partner")


ORGANIZATION_KEY = CallerKind(
    principal=Principal,
    prove=_organization_key,
    schemes={"organization": api_key_scheme("An organization key, `fgo_…`.")},
    limited=True,
    exact=True,
)
PARTNER_KEY = CallerKind(
    principal=Principal,
    prove=_partner_key,
    schemes={"partner": api_key_scheme("A partner key, `fgp_…`.")},
    limited=True,
    exact=True,
)
OWNER = Door("organization", "", ORGANIZATION_KEY, (FleetScope, OrganizationScope))
VENDOR = Door("partner", "/partner", PARTNER_KEY, (VendorScope,))
BOTH = (OWNER, VENDOR)
"""What calls that owners and vendors make alike are mounted at."""
