"""What a cloud connector imported, and which of it is excluded since."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound
from gateway.stores.connectors import cloud_connectors
from schemas.postgres import Connection, Executor

UNKNOWN = "The connector has no device of this id that a user deleted"


class ImportedDevice(Struct):
    """A device that a connector imported. `reason` says why it is excluded: missing or user_deleted."""

    vendor_id: str
    device_id: UUID
    name: str
    state: Literal["active", "excluded"]
    reason: Literal["missing", "user_deleted"] | None
    excluded_at: datetime | None


async def page(
    executor: Executor, connector_id: str, excluded: bool | None, *, after: str | None, offset: int, limit: int
) -> list[ImportedDevice]:
    """What it imported, in the order of the vendor's ids."""
    rows = await executor.fetch(
        """SELECT vendor_id, device_id, name, CASE WHEN excluded IS NULL THEN 'active' ELSE 'excluded' END AS state,
                  excluded AS reason, excluded_at
             FROM cloud_devices WHERE connector_id = $1 AND ($2::text IS NULL OR vendor_id > $2)
              AND ($3::boolean IS NULL OR (excluded IS NOT NULL) = $3) ORDER BY vendor_id OFFSET $4 LIMIT $5""",
        connector_id,
        after,
        excluded,
        offset,
        limit,
    )
    return [ImportedDevice(**row) for row in rows]


async def restore(connection: Connection, connector_id: str, vendor_id: str) -> None:
    """Let a device that a user deleted be imported again, by the next run. Raises NotFound."""
    restored = await connection.fetchval(
        """DELETE FROM cloud_devices WHERE connector_id = $1 AND vendor_id = $2 AND excluded = 'user_deleted'
           RETURNING true""",
        connector_id,
        vendor_id,
    )
    if not restored:
        raise NotFound(UNKNOWN)
    await cloud_connectors.sync(connection, connector_id)
