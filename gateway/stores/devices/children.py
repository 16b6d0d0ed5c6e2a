"""Devices below a device."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.stores.devices import device_view, states
from schemas.postgres import Executor, Pool


class Child(Struct):
    """A child as its parent sees it."""

    id: UUID
    sn: str | None
    mac: str | None
    state: dict[str, Any]
    last_seen: datetime | None
    name: str
    firmware_version: str
    vendor: str
    model: str
    claimed: bool
    details: dict[str, Any]


async def listed(connection: Executor, parent_id: UUID) -> list[Child]:
    """The living children of a device, oldest registration first."""
    rows = await connection.fetch(
        """SELECT d.id, d.shard, d.sn, d.mac, d.name, d.firmware_version, m.vendor, m.name AS model, d.claimed_at,
                  d.details
             FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.parent_id = $1 AND d.deleted_at IS NULL ORDER BY d.id""",
        parent_id,
    )
    seen = await states.read(connection, [(row["shard"], row["id"]) for row in rows])
    return [
        Child(
            id=row["id"],
            sn=row["sn"],
            mac=row["mac"],
            state=device_view.shown(seen.get(row["id"], states.NEVER_SEEN)),
            last_seen=seen.get(row["id"], states.NEVER_SEEN).last_seen_at,
            name=row["name"],
            firmware_version=row["firmware_version"],
            vendor=row["vendor"],
            model=row["model"],
            claimed=row["claimed_at"] is not None,
            details=row["details"],
        )
        for row in rows
    ]


async def ids(connection: Executor, parent_id: UUID) -> list[UUID]:
    """The living children of a device, oldest registration first."""
    rows = await connection.fetch(
        "SELECT id FROM devices WHERE parent_id = $1 AND deleted_at IS NULL ORDER BY id", parent_id
    )
    return [row["id"] for row in rows]


async def key_versions(pool: Pool, parent_id: UUID, child_ids: Sequence[str]) -> dict[str, int]:
    """The version of a good key of each of these ids that is a living child of the parent; others are left out.

    While two are good it is that of the key before: the child itself did not use the new one.
    """
    rows = await pool.fetch(
        """SELECT id::text AS id,
                  CASE WHEN previous_key_good THEN previous_key_version ELSE key_version END AS key_version
             FROM devices
            WHERE parent_id = $1 AND id::text = ANY($2::text[]) AND deleted_at IS NULL""",
        parent_id,
        [child_id for child_id in child_ids if "\0" not in child_id],
    )
    return {row["id"]: row["key_version"] for row in rows}
