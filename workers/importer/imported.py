"""What a connector imported, and what was told last of each device."""

from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.postgres import Executor
from workers.importer.connector import Connector


async def model_of(executor: Executor, organization_id: UUID, model_id: UUID, title: str) -> UUID:
    """The model of the organization's devices of this vendor; made with the first of them."""
    found: UUID = await executor.fetchval(
        """INSERT INTO device_models (id, organization_id, vendor, name, authentication, offline_threshold_s)
           VALUES ($1, $2, $3, $3 || ' (imported)', 'cloud_id', 1800)
           ON CONFLICT (organization_id, name) DO UPDATE SET vendor = excluded.vendor RETURNING id""",
        model_id,
        organization_id,
        title,
    )
    return found


async def devices_of(executor: Executor, connector: Connector, vendor_ids: list[str]) -> dict[str, Any]:
    """By vendor id: device id, shard, key version and last reading of those that are active."""
    rows = await executor.fetch(
        """SELECT c.vendor_id, c.reading, c.reading_at, d.id, d.shard, d.key_version
             FROM cloud_devices c JOIN devices d ON d.id = c.device_id
            WHERE c.connector_id = $1 AND c.vendor_id = ANY($2) AND c.excluded IS NULL AND d.deleted_at IS NULL
              AND d.organization_id = $3""",
        connector.id,
        vendor_ids,
        connector.organization_id,
    )
    return {row["vendor_id"]: row for row in rows}


async def keep_readings(executor: Executor, connector_id: str, readings: dict[str, bytes], now: datetime) -> None:
    """Remember what was stored last of each device, by vendor id."""
    if readings:
        await executor.execute(
            """UPDATE cloud_devices c SET reading = r.reading, reading_at = $4
                 FROM unnest($2::text[], $3::bytea[]) AS r (vendor_id, reading)
                WHERE c.connector_id = $1 AND c.vendor_id = r.vendor_id""",
            connector_id,
            list(readings),
            list(readings.values()),
            now,
        )


async def vendor_ids(executor: Executor, connector_id: str, after: str, limit: int) -> list[str]:
    """Active devices in the order of their ids, from behind `after` on."""
    rows = await executor.fetch(
        """SELECT vendor_id FROM cloud_devices WHERE connector_id = $1 AND vendor_id > $2 AND excluded IS NULL
            ORDER BY vendor_id LIMIT $3""",
        connector_id,
        after,
        limit,
    )
    return [row["vendor_id"] for row in rows]
