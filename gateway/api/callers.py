"""Who is calling: turns the `Authorization` header into a caller, or into a 401."""

from uuid import UUID

from msgspec import Struct
from starlette.requests import Request

from gateway.refusals import Unauthenticated
from gateway.services import Services
from gateway.stores.devices import identity
from gateway.stores.devices.identity import DeviceCaller
from schemas import ids

ID_CHARACTERS = 36


class OrganizationCaller(Struct, frozen=True):
    """A tenant as owner of devices, proven by an organisation key."""

    organization_id: UUID


class PartnerCaller(Struct, frozen=True):
    """A tenant as vendor of device models, proven by a partner key."""

    organization_id: UUID


Caller = DeviceCaller | OrganizationCaller | PartnerCaller


def presented_key(request: Request) -> str:
    """The credential of a request; a `Bearer ` prefix is tolerated."""
    value = request.headers.get("authorization", "")
    return value[7:].strip() if value[:7].lower() == "bearer " else value


async def device(services: Services, request: Request, device_id: str) -> DeviceCaller:
    """Check a device's key, count the call against its limit, note that it was seen, and load what routes need."""
    key = presented_key(request).encode("utf-8", "replace")
    name = device_id.lower().encode("utf-8", "replace")
    if len(name) != ID_CHARACTERS or not services.access_keys.verify(name, key):
        raise Unauthenticated
    await services.call_limit.count(name)
    found = await identity.by_key(services.postgres, UUID(device_id), int(key[:2], 16))
    services.ingest.seen(name, key[:2])
    return found


async def tenant(services: Services, request: Request, kind: str) -> UUID:
    """The organisation behind an API key of `kind` (organization or partner)."""
    presented = ids.present(presented_key(request))
    if presented is None or presented.kind != kind:
        raise Unauthenticated
    row = await services.postgres.fetchrow(
        "SELECT organization_id, digest FROM api_keys WHERE id = $1 AND kind = $2 AND revoked_at IS NULL",
        presented.id,
        kind,
    )
    if row is None or not ids.same(presented.digest, row["digest"]):
        raise Unauthenticated
    organization_id: UUID = row["organization_id"]
    return organization_id
