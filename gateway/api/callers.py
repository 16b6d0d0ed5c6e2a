"""Who is calling: turns the `Authorization` header into a caller, or into a 401."""

from uuid import UUID

from msgspec import Struct
from starlette.requests import Request

from gateway.refusals import Refusal
from gateway.services import Services
from schemas import ids

ID_CHARACTERS = 36
UNAUTHORIZED = "Unauthorized"


class DeviceCaller(Struct, frozen=True):
    """A registered device, proven by its access key."""

    id: UUID
    shard: int
    model_id: UUID
    parent_id: UUID | None
    organization_id: UUID | None
    project_id: UUID | None
    space_id: UUID | None


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
    identity = device_id.encode("utf-8", "replace")
    if len(identity) != ID_CHARACTERS or not services.access_keys.verify(identity, key):
        raise Refusal(401, UNAUTHORIZED)
    await services.call_limit.count(identity)
    row = await services.postgres.fetchrow(
        """SELECT id, shard, model_id, parent_id, organization_id, project_id, space_id FROM devices
            WHERE id = $1 AND key_version = $2 AND deleted_at IS NULL""",
        UUID(device_id),
        int(key[:2], 16),
    )
    if row is None:
        raise Refusal(401, UNAUTHORIZED)
    services.ingest.seen(identity, key[:2])
    return DeviceCaller(**row)


async def tenant(services: Services, request: Request, kind: str) -> UUID:
    """The organisation behind an API key of `kind` (organization or partner)."""
    presented = ids.present(presented_key(request))
    if presented is None or presented.kind != kind:
        raise Refusal(401, UNAUTHORIZED)
    row = await services.postgres.fetchrow(
        "SELECT organization_id, digest FROM api_keys WHERE id = $1 AND kind = $2 AND revoked_at IS NULL",
        presented.id,
        kind,
    )
    if row is None or not ids.same(presented.digest, row["digest"]):
        raise Refusal(401, UNAUTHORIZED)
    organization_id: UUID = row["organization_id"]
    return organization_id
