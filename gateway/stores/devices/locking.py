"""A device that its owner (or the vendor of its model) is about to change: locked first, then changed.

In which order a change locks what it needs is written in `moving`.
"""

from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound
from schemas.postgres import Connection, Executor

UNKNOWN = "Device not found"


class LockedDevice(Struct, frozen=True):
    """A device of the caller's, locked for the transaction that changes it."""

    id: UUID
    model_id: UUID
    project_id: UUID
    space_id: UUID
    name: str
    details: dict[str, Any]
    config_version: int
    open_commands: int


async def lock(connection: Connection, organization_id: UUID, device_id: UUID) -> LockedDevice:
    """Lock a device that the organization owns until the end of the transaction. Raises NotFound."""
    row = await connection.fetchrow(
        """SELECT id, model_id, project_id, space_id, name, details, config_version, open_commands
             FROM devices WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE""",
        device_id,
        organization_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return LockedDevice(**row)


async def lock_of_vendor(connection: Connection, organization_id: UUID, device_id: UUID) -> None:
    """Lock a device of one of the organization's models until the end of the transaction. Raises NotFound."""
    if not await connection.fetchval(
        """SELECT true FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.id = $1 AND m.organization_id = $2 AND d.deleted_at IS NULL FOR NO KEY UPDATE OF d""",
        device_id,
        organization_id,
    ):
        raise NotFound(UNKNOWN)


async def check_owned(connection: Executor, organization_id: UUID, device_id: UUID) -> None:
    """Raises NotFound unless the organization owns the device, which is not locked."""
    if not await connection.fetchval(
        "SELECT true FROM devices WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
        device_id,
        organization_id,
    ):
        raise NotFound(UNKNOWN)
