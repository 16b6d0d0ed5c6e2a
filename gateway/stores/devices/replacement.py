"""Another unit takes a device's place, and the same unit comes back after a factory reset.

    request ──▶ waits ──the unit registers──▶ it is the device: id, name, space, config, licences, labels, history
                └──undo──▶ nothing                                                 the unit before is locked out

    a registered unit registers again ──▶ refused and noted ──owner confirms, within 24 h──▶ its next try gets a new key

Nothing happens by itself: a serial number and a hardware key can be copied. Whose new unit it is nobody can know before
it registers, so any may be named; of several devices that wait for the same unit none gets it.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from gateway.stores.change import Change
from gateway.stores.devices import audit, deletion, licensed, locking
from gateway.stores.devices.audit import Actor
from gateway.stores.devices.locking import UNKNOWN, LockedDevice
from gateway.stores.devices.registration import TAKEN, NewDevice, Unheard
from gateway.stores.devices.rotation import TOO_OFTEN
from schemas import device_trees
from schemas.ids import next_key_version
from schemas.life_cycle import CommandUpdated, DeviceReplaced
from schemas.postgres import Connection, Executor

RETURN_WITHIN = timedelta(hours=24)
"""So long after a unit asked to come back may its owner confirm it, and so long has it time to try again then."""
NOBODY_ASKED = "No unit asked to come back within the last 24 hours"
NONE_WAITS = "No replacement was asked for"


class Identity(Struct, frozen=True):
    """What a unit shows when it registers; one of `mac` and `cloud_id` is None."""

    sn: str
    mac: str | None
    cloud_id: str | None


class Proof(Struct, frozen=True):
    """How the units of a device's model are told apart."""

    authentication: str
    short_code: str | None


async def proof_of(connection: Executor, owner_id: UUID, device_id: UUID) -> Proof:
    """What must be shown of a unit that is to take the place of a device. Raises NotFound."""
    row = await connection.fetchrow(
        """SELECT m.authentication, o.short_code FROM devices d JOIN device_models m ON m.id = d.model_id
             JOIN organizations o ON o.id = m.organization_id
            WHERE d.id = $1 AND d.organization_id = $2 AND d.deleted_at IS NULL""",
        device_id,
        owner_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return Proof(**row)


async def request(change: Change, owner_id: UUID, device_id: UUID, unit: Identity, actor: Actor) -> bool:
    """Have a unit take the place of a device as soon as it registers; another wish is forgotten.

    A unit that has registered and is nobody's is deleted, upon which it registers again; returns whether there was one.
    Raises NotFound; DoesNotFit when the organization has the unit already, or when devices are below it.
    """
    found = await _registered(change.connection, device_id, unit)
    await device_trees.lock_trees(
        change.connection, device_trees.THESE, [device_id, *([] if found is None else [found["id"]])]
    )
    device = await locking.lock(change.connection, owner_id, device_id)
    found = await _registered(change.connection, device_id, unit)  # somebody may have claimed it meanwhile
    if found is not None and (found["organization_id"] == owner_id or found["has_others"]):
        raise DoesNotFit(TAKEN["devices_sn_key"])
    await change.connection.execute(
        """INSERT INTO device_replacements (device_id, organization_id, model_id, sn, mac, cloud_id, requested_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7)
           ON CONFLICT (device_id) DO UPDATE SET organization_id = excluded.organization_id, sn = excluded.sn,
                  mac = excluded.mac, cloud_id = excluded.cloud_id, requested_at = excluded.requested_at""",
        device.id,
        owner_id,
        device.model_id,
        unit.sn,
        unit.mac,
        unit.cloud_id,
        change.moment,
    )
    await audit.note(change, device.id, actor, "replacement_requested", sn=unit.sn)
    if found is None or found["organization_id"] is not None:
        return False
    await deletion.delete(change, [found["id"]])
    return True


async def _registered(connection: Executor, device_id: UUID, unit: Identity) -> Any:
    """The unit of a device's model that shows this, if it has registered."""
    return await connection.fetchrow(
        """SELECT u.id, u.organization_id,
                  u.organization_id IS NULL AND (u.parent_id IS NOT NULL OR EXISTS (
                      SELECT FROM devices c WHERE c.parent_id = u.id AND c.deleted_at IS NULL)) AS has_others
             FROM devices d JOIN devices u ON u.model_id = d.model_id
            WHERE d.id = $1 AND u.sn = $2 AND u.mac IS NOT DISTINCT FROM coalesce($3, u.mac)
              AND u.cloud_id IS NOT DISTINCT FROM coalesce($4, u.cloud_id) AND u.deleted_at IS NULL""",
        device_id,
        unit.sn,
        unit.mac,
        unit.cloud_id,
    )


async def undo(change: Change, device: LockedDevice, actor: Actor) -> None:
    """Let no unit take the place of a device. Raises NotFound when none is to."""
    sn = await change.connection.fetchval(
        "DELETE FROM device_replacements WHERE device_id = $1 RETURNING sn", device.id
    )
    if sn is None:
        raise NotFound(NONE_WAITS)
    await audit.note(change, device.id, actor, "replacement_undone", sn=sn)


async def lock_with_parent(connection: Connection, parent_id: UUID, model_id: UUID, sn: str | None) -> None:
    """Lock a device that waits for such a unit below a parent, and the parent, in the order of devices."""
    await connection.execute(
        """WITH waits AS (
               SELECT d.id FROM device_replacements r JOIN devices d ON d.id = r.device_id
                WHERE r.model_id = $2 AND r.sn = $3 AND d.parent_id = $1 AND d.deleted_at IS NULL)
           SELECT FROM devices WHERE id IN (SELECT id FROM waits) OR id = $1 AND EXISTS (SELECT FROM waits)
            ORDER BY id FOR NO KEY UPDATE""",
        parent_id,
        model_id,
        sn,
    )


async def take_place(change: Change, new: NewDevice, address: str) -> Unheard | None:
    """Make a unit that registers the device that waits for it, if one does: that device's id and new key version.

    Raises DoesNotFit when the unit is registered already.
    """
    rows = await change.connection.fetch(
        """SELECT r.device_id FROM device_replacements r JOIN devices d ON d.id = r.device_id
            WHERE r.model_id = $1 AND r.sn = $2 AND (r.mac = $3 OR r.cloud_id = $4)
              AND d.organization_id = r.organization_id AND d.deleted_at IS NULL
              AND ($5::uuid IS NULL OR d.parent_id = $5)
            LIMIT 2""",
        new.model.id,
        new.sn,
        new.mac,
        new.cloud_id,
        new.only_below,
    )
    if len(rows) != 1:
        return None
    device_id: UUID = rows[0]["device_id"]
    was = await _locked(change, device_id)
    if was is None or not await change.connection.fetchval(
        "DELETE FROM device_replacements WHERE device_id = $1 AND sn = $2 AND organization_id = $3 RETURNING true",
        device_id,
        new.sn,
        was["organization_id"],
    ):
        return None
    version = await _give_key(change, was, new)
    await _abort_begun(change, device_id)
    await audit.note(change, device_id, Actor("unit", address), "replaced", sn=new.sn, previous_sn=was["sn"])
    assert new.sn is not None
    change.record(device_id, DeviceReplaced(sn=new.sn, previous_sn=was["sn"]))
    return Unheard(device_id, version)


async def confirm_return(change: Change, device: LockedDevice, actor: Actor) -> datetime:
    """Let the unit that asked to come back do so; returns until when. Raises DoesNotFit when none asked of late."""
    until = change.moment + RETURN_WITHIN
    if not await change.connection.fetchval(
        """UPDATE devices SET return_confirmed_until = $2 WHERE id = $1 AND asked_back_at > $3 RETURNING true""",
        device.id,
        until,
        change.moment - RETURN_WITHIN,
    ):
        raise DoesNotFit(NOBODY_ASKED)
    await audit.note(change, device.id, actor, "return_confirmed")
    return until


async def come_back(change: Change, new: NewDevice, address: str) -> Unheard | None:
    """Give a unit that its owner lets come back a new key, once; otherwise note that it asks.

    It must show what this unit showed when it registered. One that is locked is left alone: the unit asks again.
    """
    row = await change.connection.fetchrow(
        """SELECT id, asked_back_at, return_confirmed_until FROM devices
            WHERE model_id = $1 AND sn = $2 AND mac IS NOT DISTINCT FROM $3
              AND cloud_id IS NOT DISTINCT FROM $4 AND ($5::uuid IS NULL OR parent_id = $5) AND deleted_at IS NULL
              FOR NO KEY UPDATE SKIP LOCKED""",
        new.model.id,
        new.sn,
        new.mac,
        new.cloud_id,
        new.only_below,
    )
    if row is None:
        return None
    device_id, firmware, actor = row["id"], new.firmware_told or new.firmware_version, Actor("unit", address)
    if row["return_confirmed_until"] is not None and row["return_confirmed_until"] > change.moment:
        was = await _locked(change, device_id)
        assert was is not None
        version = await _give_key(change, was, new)
        await audit.note(change, device_id, actor, "returned", firmware_version=firmware)
        return Unheard(device_id, version)
    await change.connection.execute(
        "UPDATE devices SET asked_back_at = $2, asked_back_address = $3, asked_back_firmware = $4 WHERE id = $1",
        device_id,
        change.moment,
        address,
        firmware,
    )
    if row["asked_back_at"] is None or row["asked_back_at"] <= change.moment - RETURN_WITHIN:
        await audit.note(change, device_id, actor, "return_asked", firmware_version=firmware)
    return None


async def _locked(change: Change, device_id: UUID) -> Any:
    return await change.connection.fetchrow(
        """SELECT id, organization_id, sn, details, key_version, key_generation() AS generation FROM devices
            WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE""",
        device_id,
    )


async def _give_key(change: Change, was: Any, new: NewDevice) -> int:
    """Make a device the unit that registers: its keys before end, and it is told again all that a unit must know."""
    device_id: UUID = was["id"]
    version = next_key_version(was["key_version"], was["generation"])
    if version is None:
        raise DoesNotFit(TOO_OFTEN)
    try:
        await change.connection.execute(
            """UPDATE devices
                  SET sn = $2, mac = $3, cloud_id = $4, firmware_version = $5, firmware_told = $6, details = $7,
                      sub_model = coalesce($8, sub_model), hardware_key_id = $9, key_version = $10,
                      previous_key_version = NULL, previous_key_until = NULL, previous_key_good = false,
                      asked_back_at = NULL, asked_back_address = NULL, asked_back_firmware = NULL,
                      return_confirmed_until = NULL, unit_since = $11, applied_config_version = 0,
                      applied_space_version = 0
                WHERE id = $1""",
            device_id,
            new.sn,
            new.mac,
            new.cloud_id,
            new.firmware_version,
            new.firmware_told,
            was["details"] | new.details,
            new.sub_model,
            new.model.hardware_key_id,
            version,
            change.moment,
        )
    except asyncpg.UniqueViolationError as error:
        raise DoesNotFit(TAKEN[error.constraint_name or ""]) from None
    for event in await licensed.offer_anew(change.connection, device_id, change.moment):
        change.record(device_id, event)
    change.touched(device_id)
    return version


async def _abort_begun(change: Change, device_id: UUID) -> None:
    """End what the unit before was at; the new one gets what was not begun."""
    rows = await change.connection.fetch(
        """UPDATE commands SET status = 'aborted', finished_at = $2, message = 'unit replaced'
            WHERE id IN (SELECT id FROM commands WHERE device_id = $1 AND status = 'in_progress'
                          ORDER BY number FOR NO KEY UPDATE)
           RETURNING id, name, status, message""",
        device_id,
        change.moment,
    )
    for row in rows:
        change.record(device_id, CommandUpdated.of_row(row))
