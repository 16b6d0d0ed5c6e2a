"""Registering: who may, and the row of a new device.

That a serial number is free within its model and a Cloud ID anywhere is decided by unique indexes when the row is
written, never by looking first: of two registrations that race exactly one wins.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit, Malformed, NotFound
from gateway.stores.change import Change
from schemas import ids
from schemas.constant_time import same_bytes
from schemas.life_cycle import DeviceRegistered
from schemas.postgres import Connection, Executor
from schemas.replies import DEFAULT_RATE_LIMIT

KEY_INVALID = "Hardware key is invalid"
MODEL_UNKNOWN = "Model not found"
PARENT_UNKNOWN = "Parent not found"
CHILDREN_MAX = 10_000
REPEATED_WITHIN = timedelta(hours=1)
"""So long may a unit that was let in an owner's device repeat the call whose answer it lost."""
TOO_MANY_CHILDREN = f"A parent has at most {CHILDREN_MAX} children"
TAKEN = {
    "devices_sn_key": "Sn has already been taken",
    "devices_cloud_id_key": "Cloud id has already been taken",
}


class Model(Struct, frozen=True):
    """What a device is registered as."""

    id: UUID
    vendor_id: UUID
    authentication: str
    short_code: str | None
    rate_limit: int
    hardware_key_id: UUID | None = None


class Ownership(Struct, frozen=True):
    """Whose a device is, and where; all None while nobody claimed it."""

    organization_id: UUID | None = None
    project_id: UUID | None = None
    space_id: UUID | None = None


UNCLAIMED = Ownership()


class NewDevice(Struct, frozen=True, kw_only=True):
    """A device about to be registered."""

    id: UUID
    shard: int
    model: Model
    parent_id: UUID | None
    sn: str | None
    mac: str | None
    cloud_id: str | None
    name: str
    sub_model: str | None
    firmware_version: str
    firmware_told: str | None = None
    details: dict[str, Any]
    vouched_for: bool = False
    """Whether its parent registers it."""

    @property
    def only_below(self) -> UUID | None:
        """Whose place it may take, or come back to: what a parent vouches for, only below that parent."""
        return self.parent_id if self.vouched_for else None


async def model_of_hardware_key(connection: Executor, text: str) -> Model:
    """The model that a hardware key registers devices of. Raises Malformed."""
    presented = ids.present(text)
    if presented is None or presented.kind != "hardware":
        raise Malformed(KEY_INVALID)
    row = await connection.fetchrow(
        """SELECT m.id, m.organization_id AS vendor_id, m.authentication, o.short_code, m.rate_limit,
                  k.id AS hardware_key_id, k.digest
             FROM hardware_keys k JOIN device_models m ON m.id = k.model_id
             JOIN organizations o ON o.id = m.organization_id
            WHERE k.id = $1 AND k.revoked_at IS NULL""",
        presented.id,
    )
    if row is None or not same_bytes(presented.digest, row["digest"]):
        raise Malformed(KEY_INVALID)
    return Model(**{name: value for name, value in row.items() if name != "digest"})


async def model_for_child(connection: Connection, model_id: UUID, vendor_id: UUID, owner_id: UUID | None) -> Model:
    """A model that a child may be of: one of its parent's vendor or of its parent's owner. Raises NotFound."""
    row = await connection.fetchrow(
        """SELECT m.id, m.organization_id AS vendor_id, m.authentication, o.short_code, m.rate_limit
             FROM device_models m JOIN organizations o ON o.id = m.organization_id
            WHERE m.id = $1 AND m.organization_id IN ($2, $3)""",
        model_id,
        vendor_id,
        owner_id,
    )
    if row is None:
        raise NotFound(MODEL_UNKNOWN)
    return Model(**row)


async def lock_parent(connection: Connection, parent_id: UUID) -> tuple[UUID, Ownership] | None:
    """The vendor and the owner of a device that is to get a child, None when it is unknown or deleted.

    Until the transaction ends the parent is neither claimed, moved nor deleted, so no child is left behind.
    Raises DoesNotFit when it has too many children.
    """
    row = await connection.fetchrow(
        """SELECT p.organization_id, p.project_id, p.space_id, m.organization_id AS vendor_id
             FROM devices p JOIN device_models m ON m.id = p.model_id
            WHERE p.id = $1 AND p.deleted_at IS NULL FOR SHARE OF p""",
        parent_id,
    )
    if row is None:
        return None
    await check_room(connection, parent_id)
    return row["vendor_id"], Ownership(row["organization_id"], row["project_id"], row["space_id"])


async def check_room(connection: Connection, parent_id: UUID) -> None:
    """Raises DoesNotFit when a device has so many children that it can have no more."""
    children = await connection.fetchval(
        "SELECT count(*) FROM devices WHERE parent_id = $1 AND deleted_at IS NULL", parent_id
    )
    if children >= CHILDREN_MAX:
        raise DoesNotFit(TOO_MANY_CHILDREN)


async def insert(change: Change, new: NewDevice, ownership: Ownership) -> int:
    """Store a new device as its owner's, or as nobody's; returns the version of its first key.

    Raises DoesNotFit when its serial number or Cloud ID is taken, NotFound when its model was deleted just now.
    """
    claimed = ownership.project_id is not None
    try:
        row = await change.connection.fetchrow(
            """INSERT INTO devices (id, shard, model_id, hardware_key_id, parent_id, sn, mac, cloud_id, name, sub_model,
                                    firmware_version, firmware_told, details, registered_at, organization_id,
                                    project_id, space_id, claimed_at, space_data_version, vouched_for)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
            RETURNING key_version, latest_fw_file_id IS NOT NULL AS has_update""",
            new.id,
            new.shard,
            new.model.id,
            new.model.hardware_key_id,
            new.parent_id,
            new.sn,
            new.mac,
            new.cloud_id,
            new.name,
            new.sub_model,
            new.firmware_version,
            new.firmware_told,
            new.details,
            change.moment,
            ownership.organization_id,
            ownership.project_id,
            ownership.space_id,
            change.moment if claimed else None,
            int(claimed),
            new.vouched_for,
        )
    except asyncpg.UniqueViolationError as error:
        raise DoesNotFit(TAKEN[error.constraint_name or ""]) from None
    except asyncpg.ForeignKeyViolationError:
        raise NotFound(MODEL_UNKNOWN) from None
    if ownership.space_id is not None:
        registered = DeviceRegistered(parent_id=new.parent_id, space_id=ownership.space_id)
        change.record(new.id, registered)
    assert row is not None
    if claimed or new.model.rate_limit != DEFAULT_RATE_LIMIT or row["has_update"]:
        # Else its first reply is that of a device for which nothing waits.
        change.touched(new.id)
    key_version: int = row["key_version"]
    return key_version


class Unheard(NamedTuple):
    """A device that was registered, and never heard of since."""

    id: UUID
    key_version: int


async def unheard(connection: Connection, new: NewDevice, moment: datetime) -> Unheard | None:
    """The device that an earlier call with the same proof registered, if it was never heard of since.

    It is nobody's: one that has an owner is deleted by its owner, and registered anew. Or this unit was let in its
    owner's device shortly before (see `replacement`), and the answer was lost.
    """
    row = await connection.fetchrow(
        """SELECT id, key_version, shard, organization_id, unit_since FROM devices
            WHERE model_id = $1 AND hardware_key_id IS NOT DISTINCT FROM $2 AND sn IS NOT DISTINCT FROM $3
              AND mac IS NOT DISTINCT FROM $4 AND cloud_id IS NOT DISTINCT FROM $5
              AND (parent_id IS NOT DISTINCT FROM $6 AND organization_id IS NULL
                   OR unit_since > $7 AND ($8::uuid IS NULL OR parent_id = $8))
              AND deleted_at IS NULL LIMIT 1""",
        new.model.id,
        new.model.hardware_key_id,
        new.sn,
        new.mac,
        new.cloud_id,
        new.parent_id,
        moment - REPEATED_WITHIN,
        new.only_below,
    )
    if row is None:
        return None
    heard = await connection.fetchval(
        """SELECT EXISTS (SELECT FROM device_state WHERE shard = $1 AND device_id = $2
                             AND last_seen_at >= coalesce($3, last_seen_at))""",
        row["shard"],
        row["id"],
        row["unit_since"],
    )
    return None if heard else Unheard(row["id"], row["key_version"])
