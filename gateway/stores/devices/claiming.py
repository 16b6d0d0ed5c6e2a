"""Claiming: an organization proves that it holds a registered device, and so becomes its owner.

The proof is what the device's model asks for: MAC and serial number, or the Cloud ID. A wrong proof, one of a device
that was never registered and one of a device that someone else owns get the same answer, so that nobody learns from
it which devices exist. A device below another one is claimed with that one, or else by its owner only.
"""

from typing import NamedTuple
from uuid import UUID

import asyncpg

from gateway.identifiers import is_mac, normalized_mac
from gateway.refusals import DoesNotFit, NotFound
from gateway.stores.change import Change
from gateway.stores.tenants import spaces
from schemas import serials
from schemas.life_cycle import DeviceClaimed
from schemas.postgres import Connection

UNKNOWN = "No device to claim was found: check what is printed on it, and that it has registered"
ALREADY = "Device has already been claimed"

_FIND = """
    SELECT d.id, d.organization_id, m.device_type, m.product_number
      FROM devices d JOIN device_models m ON m.id = d.model_id
     WHERE m.authentication = $1 AND d.deleted_at IS NULL AND {proof}
       AND (d.parent_id IS NULL OR d.organization_id = $2
            OR EXISTS (SELECT FROM devices parent WHERE parent.id = d.parent_id AND parent.organization_id = $2))
     ORDER BY d.organization_id IS NOT NULL, d.organization_id IS DISTINCT FROM $2, d.registered_at
     LIMIT 1
"""
_LOCKED = " FOR NO KEY UPDATE OF d"
_BY_CLOUD_ID = _FIND.format(proof="d.cloud_id = $3")
_BY_MAC_AND_SN = _FIND.format(proof="d.mac = $3 AND d.sn = $4")


async def by_cloud_id(connection: Connection, organization_id: UUID, cloud_id: str) -> UUID:
    """The unclaimed device of this Cloud ID, locked. Raises NotFound, or DoesNotFit when it is the caller's already."""
    row = await connection.fetchrow(_BY_CLOUD_ID + _LOCKED, "cloud_id", organization_id, cloud_id)
    return _unclaimed(row, organization_id)


async def by_mac_and_sn(connection: Connection, organization_id: UUID, mac: str, sn: str) -> UUID:
    """The unclaimed device of this pair, locked. Raises NotFound, or DoesNotFit when it is the caller's already."""
    row = await connection.fetchrow(_BY_MAC_AND_SN + _LOCKED, "mac_sn", organization_id, mac, sn)
    return _unclaimed(row, organization_id)


class ClaimableDevice(NamedTuple):
    """A device by its proof. It belongs to nobody, or to the organization that asks."""

    device_id: UUID
    device_type: str
    product_number: str
    claimed: bool


async def by_identifier(connection: Connection, organization_id: UUID, identifier: str) -> ClaimableDevice | None:
    """The device of a Cloud ID, or of a pair written `mac/sn`; None when it is another organization's, or unknown."""
    row = await connection.fetchrow(_BY_CLOUD_ID, "cloud_id", organization_id, identifier)
    mac, _, sn = identifier.partition("/")
    if row is None and sn and is_mac(mac):
        row = await connection.fetchrow(
            _BY_MAC_AND_SN, "mac_sn", organization_id, normalized_mac(mac), serials.normalized(sn)
        )
    if row is None or row["organization_id"] not in (None, organization_id):
        return None
    return ClaimableDevice(row["id"], row["device_type"], row["product_number"], row["organization_id"] is not None)


def _unclaimed(row: asyncpg.Record | None, organization_id: UUID) -> UUID:
    if row is not None and row["organization_id"] == organization_id:
        raise DoesNotFit(ALREADY)
    if row is None or row["organization_id"] is not None:
        raise NotFound(UNKNOWN)
    device_id: UUID = row["id"]
    return device_id


async def claim(
    change: Change, organization_id: UUID, device_id: UUID, *, space_id: UUID, name: str | None = None
) -> list[UUID]:
    """Make the organization the owner of a device and of all unclaimed devices below it; returns all of them.

    None are returned when somebody else was quicker. Raises DoesNotFit when the space is not the organization's.
    """
    project_id = await spaces.keep(change.connection, organization_id, space_id)
    rows = await change.connection.fetch(
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
           RETURNING id""",
        device_id,
        organization_id,
        project_id,
        space_id,
        change.moment,
        name,
    )
    claimed = [row["id"] for row in rows]
    for claimed_id in claimed:
        change.record(claimed_id, DeviceClaimed(space_id=space_id))
    change.touched(*claimed)
    return claimed
