"""Claiming: an organization proves that it holds a registered device, and so becomes its owner.

The proof is what the device's model asks for: MAC and serial number, or the Cloud ID. What is printed on a device can
be copied, and any vendor's key can register a device under it; so only devices are found whose models the organization
may see: its own, those of its partners, and public ones. Of several that fit none is chosen: the claim names the model.

A wrong proof, one of a device that was never registered and one of a device that someone else owns get the same answer,
so that nobody learns from it which devices exist. A device below another one is claimed with that one if that one
registered it, or else by its owner only.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.identifiers import is_mac, normalized_mac
from gateway.refusals import DoesNotFit, NotFound
from gateway.stores.change import Change
from gateway.stores.devices import states
from gateway.stores.tenants import spaces
from schemas import device_trees, serials
from schemas.life_cycle import DeviceClaimed
from schemas.postgres import Connection

UNKNOWN = "No device to claim was found: check what is printed on it, and that it has registered"
ALREADY = "Device has already been claimed"
SEVERAL = "Model must be named, by its name or id, since devices of several have this proof: {models}"
NAMED_MAX = 10
"""Models that are named when devices of several have the same proof."""

_FIND = """
    SELECT d.id, d.shard, d.organization_id, d.registered_at, m.id AS model_id, m.vendor, m.name AS model,
           m.device_type, m.product_number
      FROM devices d JOIN device_models m ON m.id = d.model_id
     WHERE d.deleted_at IS NULL AND {proof}
       AND (d.organization_id = $1
            OR d.organization_id IS NULL AND (m.public OR m.organization_id = $1 OR m.organization_id IN (
                   SELECT partner_id FROM organization_partners WHERE organization_id = $1)))
       AND (d.parent_id IS NULL OR d.organization_id = $1
            OR EXISTS (SELECT FROM devices parent WHERE parent.id = d.parent_id AND parent.organization_id = $1))
       AND ($2::text IS NULL OR lower($2) = lower(m.vendor)
            OR EXISTS (SELECT FROM organizations o WHERE o.id = m.organization_id AND lower(o.short_code) = lower($2)))
       AND ($3::text IS NULL OR lower($3) IN (lower(m.name), m.id::text))
     ORDER BY d.id LIMIT {limit}
"""
_BY_CLOUD_ID = _FIND.format(proof="m.authentication = 'cloud_id' AND d.cloud_id = $4", limit=NAMED_MAX)
_BY_MAC_AND_SN = _FIND.format(proof="m.authentication = 'mac_sn' AND d.mac = $4 AND d.sn = $5", limit=NAMED_MAX)
_BY_ID = _FIND.format(proof="d.id = $4", limit=1)
_BELOW = """
    WITH RECURSIVE claimed AS (
        SELECT id, model_id FROM devices WHERE id = $1
        UNION ALL
        SELECT d.id, d.model_id FROM devices d JOIN claimed ON d.parent_id = claimed.id
         WHERE d.vouched_for AND d.organization_id IS NULL AND d.deleted_at IS NULL)
"""


class NamedModel(NamedTuple):
    """What the caller says a device's model is: the vendor by name or short code, the model by name or id."""

    vendor: str | None = None
    model: str | None = None


ANY_MODEL = NamedModel()


class DevicesBelow(Struct):
    """How many devices of one model come along."""

    vendor: str
    model: str
    model_id: UUID
    devices: int


class ClaimableDevice(Struct, kw_only=True, frozen=True):
    """A device by its proof, as far as someone may know who is to confirm that it is the right one."""

    id: UUID
    vendor: str
    model: str
    model_id: UUID
    device_type: str
    product_number: str
    claimed: bool
    """By the organization that asks; devices of others are not found."""
    first_seen_at: datetime
    last_seen_at: datetime | None
    below: list[DevicesBelow]
    """What is, or would be, claimed with it."""


async def by_cloud_id(
    connection: Connection, organization_id: UUID, cloud_id: str, named: NamedModel = ANY_MODEL
) -> ClaimableDevice:
    """The unclaimed device of this Cloud ID. Raises NotFound; DoesNotFit when it is the caller's already."""
    rows = await connection.fetch(_BY_CLOUD_ID, organization_id, *named, cloud_id)
    return await _unclaimed(connection, rows)


async def by_mac_and_sn(
    connection: Connection, organization_id: UUID, mac: str, sn: str, named: NamedModel = ANY_MODEL
) -> ClaimableDevice:
    """The unclaimed device of this pair.

    Raises NotFound; DoesNotFit when it is the caller's already, or when devices of several models have the pair.
    """
    rows = await connection.fetch(_BY_MAC_AND_SN, organization_id, *named, mac, sn)
    return await _unclaimed(connection, rows)


async def by_identifier(
    connection: Connection, organization_id: UUID, identifier: str, named: NamedModel = ANY_MODEL
) -> ClaimableDevice | None:
    """The device of a Cloud ID, or of a pair written `mac/sn`; None when it is another organization's, or unknown.

    Raises DoesNotFit when devices of several models have the pair.
    """
    rows = await connection.fetch(_BY_CLOUD_ID, organization_id, *named, identifier)
    mac, _, sn = identifier.partition("/")
    if not rows and sn and is_mac(mac):
        rows = await connection.fetch(
            _BY_MAC_AND_SN, organization_id, *named, normalized_mac(mac), serials.normalized(sn)
        )
    return await _found(connection, rows)


async def _unclaimed(connection: Connection, rows: list[asyncpg.Record]) -> ClaimableDevice:
    found = await _found(connection, rows)
    if found is None:
        raise NotFound(UNKNOWN)
    if found.claimed:
        raise DoesNotFit(ALREADY)
    return found


async def _found(connection: Connection, rows: list[asyncpg.Record]) -> ClaimableDevice | None:
    if not rows:
        return None
    if len(rows) > 1:
        models = (f"{row['model']} of {row['vendor']} ({row['model_id']})" for row in rows)
        raise DoesNotFit(SEVERAL.format(models=", ".join(models)))
    row = rows[0]
    seen = await states.read(connection, [(row["shard"], row["id"])])
    below = await connection.fetch(
        f"""{_BELOW} SELECT m.vendor, m.name AS model, m.id AS model_id, count(*) AS devices
              FROM claimed JOIN device_models m ON m.id = claimed.model_id WHERE claimed.id <> $1
             GROUP BY m.id ORDER BY m.id""",
        row["id"],
    )
    return ClaimableDevice(
        id=row["id"],
        vendor=row["vendor"],
        model=row["model"],
        model_id=row["model_id"],
        device_type=row["device_type"],
        product_number=row["product_number"],
        claimed=row["organization_id"] is not None,
        first_seen_at=row["registered_at"],
        last_seen_at=seen.get(row["id"], states.NEVER_SEEN).last_seen_at,
        below=[DevicesBelow(**one) for one in below],
    )


async def claim(
    change: Change, organization_id: UUID, device_id: UUID, *, space_id: UUID, name: str | None = None
) -> list[UUID]:
    """Make the organization the owner of a device and of those below it that come along; returns all of them.

    Raises NotFound or DoesNotFit when somebody was quicker, DoesNotFit when the space is not the organization's.
    """
    project_id = await spaces.keep(change.connection, organization_id, space_id)
    await device_trees.lock_trees(change.connection, device_trees.THESE, [device_id])
    # It was found before it was locked.
    row = await change.connection.fetchrow(_BY_ID, organization_id, *ANY_MODEL, device_id)
    if row is None:
        raise NotFound(UNKNOWN)
    if row["organization_id"] is not None:
        raise DoesNotFit(ALREADY)
    rows = await change.connection.fetch(
        f"""{_BELOW} UPDATE devices
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
