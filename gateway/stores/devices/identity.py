"""Which device it is that calls, by the id of its path and the version of its access key."""

from uuid import UUID

from msgspec import Struct

from gateway.refusals import Unauthenticated
from schemas.postgres import Executor


class DeviceCaller(Struct, frozen=True):
    """A registered device, proven by its access key."""

    id: UUID
    shard: int
    model_id: UUID
    parent_id: UUID | None
    organization_id: UUID | None
    project_id: UUID | None
    space_id: UUID | None


_CALLER = "id, shard, model_id, parent_id, organization_id, project_id, space_id"


async def by_id(connection: Executor, device_id: UUID) -> DeviceCaller:
    """The device of this id, which was proven otherwise. Raises Unauthenticated when it was deleted."""
    row = await connection.fetchrow(f"SELECT {_CALLER} FROM devices WHERE id = $1 AND deleted_at IS NULL", device_id)
    if row is None:
        raise Unauthenticated
    return DeviceCaller(**row)


async def by_key(connection: Executor, device_id: UUID, key_version: int) -> DeviceCaller:
    """The device whose access key has this version, or had it before until a moment that is still to come.

    Raises Unauthenticated when it was deleted, or its key rotated otherwise.
    """
    row = await connection.fetchrow(
        f"""SELECT {_CALLER} FROM devices
            WHERE id = $1 AND deleted_at IS NULL
              AND (key_version = $2
                   OR previous_key_good AND previous_key_version = $2 AND previous_key_until > now())""",
        device_id,
        key_version,
    )
    if row is None:
        raise Unauthenticated
    return DeviceCaller(**row)
