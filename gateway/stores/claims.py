"""Claiming: an organisation proves that it holds a registered device, and so becomes its owner.

The proof is what the device's model asks for: MAC and serial number, or the Cloud ID. A wrong proof, one of a device
that was never registered and one of a device that someone else owns get the same answer, so that nobody learns from
it which devices exist. A device below another one is claimed with that one, or else by its owner only.
"""

from datetime import datetime
from uuid import UUID

import asyncpg

from gateway.errors import Refusal
from gateway.stores import held_devices
from schemas import events
from schemas.events import EventType
from schemas.postgres import Connection

UNKNOWN = "No device to claim was found: check what is printed on it, and that it was online once"
ALREADY = "Device has already been claimed"

_FIND = """
    SELECT d.id, d.organization_id FROM devices d JOIN device_models m ON m.id = d.model_id
     WHERE m.authentication = $1 AND d.deleted_at IS NULL AND {proof}
       AND (d.parent_id IS NULL OR d.organization_id = $2
            OR EXISTS (SELECT FROM devices parent WHERE parent.id = d.parent_id AND parent.organization_id = $2))
     ORDER BY d.organization_id IS NOT NULL, d.organization_id IS DISTINCT FROM $2, d.registered_at
     LIMIT 1 FOR NO KEY UPDATE OF d
"""
_BY_CLOUD_ID = _FIND.format(proof="d.cloud_id = $3")
_BY_MAC_AND_SN = _FIND.format(proof="d.mac = $3 AND d.sn = $4")


async def by_cloud_id(connection: Connection, organization_id: UUID, cloud_id: str) -> UUID:
    """The unclaimed device of this Cloud ID, locked. Raises Refusal: 404, or 422 when it is the caller's already."""
    row = await connection.fetchrow(_BY_CLOUD_ID, "cloud_id", organization_id, cloud_id)
    return _unclaimed(row, organization_id)


async def by_mac_and_sn(connection: Connection, organization_id: UUID, mac: str, sn: str) -> UUID:
    """The unclaimed device of this pair, locked. Raises Refusal: 404, or 422 when it is the caller's already."""
    row = await connection.fetchrow(_BY_MAC_AND_SN, "mac_sn", organization_id, mac, sn)
    return _unclaimed(row, organization_id)


def _unclaimed(row: asyncpg.Record | None, organization_id: UUID) -> UUID:
    if row is not None and row["organization_id"] == organization_id:
        raise Refusal(422, ALREADY)
    if row is None or row["organization_id"] is not None:
        raise Refusal(404, UNKNOWN)
    device_id: UUID = row["id"]
    return device_id


async def claim(
    connection: Connection,
    organization_id: UUID,
    device_id: UUID,
    *,
    space_id: UUID,
    name: str | None,
    moment: datetime,
) -> list[UUID]:
    """Make the organisation the owner of a device and of all unclaimed devices below it; returns all of them.

    In a transaction that holds the device. Raises Refusal (422) when the organisation has no such space.
    """
    project_id = await held_devices.space_project(connection, organization_id, space_id)
    rows = await connection.fetch(
        """WITH RECURSIVE claimed AS (
               SELECT id FROM devices WHERE id = $1
               UNION ALL
               SELECT d.id FROM devices d JOIN claimed ON d.parent_id = claimed.id
                WHERE d.organization_id IS NULL AND d.deleted_at IS NULL)
           UPDATE devices
              SET organization_id = $2, project_id = $3, space_id = $4, claimed_at = $5,
                  name = CASE WHEN id = $1 THEN coalesce($6, name) ELSE name END,
                  info_version = info_version + 1, space_data_version = space_data_version + 1
            WHERE id IN (SELECT id FROM claimed) AND organization_id IS NULL
           RETURNING id, shard, project_id""",
        device_id,
        organization_id,
        project_id,
        space_id,
        moment,
        name,
    )
    for row in rows:
        await events.append(
            connection,
            EventType.DEVICE_CLAIMED,
            device_id=row["id"],
            shard=row["shard"],
            project_id=row["project_id"],
            moment=moment,
            spaceId=str(space_id),
        )
    return [row["id"] for row in rows]
