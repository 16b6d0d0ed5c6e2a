"""What a device says of itself, stored: its firmware, name and details, its parent, its settings in the cloud."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.refusals import DoesNotFit, Unauthenticated
from gateway.stores.change import Change
from gateway.stores.devices import labels
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.devices.registration import PARENT_UNKNOWN, check_room
from schemas.life_cycle import FirmwareUpdated
from schemas.postgres import Connection

BELOW_ITSELF = "Parent id: a device cannot be below itself"
CLOUD_SETTINGS_MAX = 100
SUSPENDS_INCIDENTS = "incidents.suspend_creation"
TOO_MANY_SETTINGS = f"A device has at most {CLOUD_SETTINGS_MAX} cloud settings"

_PARENTS_LOCK = 0x666C7061
"""Advisory lock of whoever gives a device another parent: two at once could otherwise close a circle."""


class SelfReport(Struct, kw_only=True):
    """What a device may say of itself, as it is stored."""

    name: str
    firmware_version: str
    firmware_told: str | None
    sub_model: str | None
    details: dict[str, Any]
    host_address: str | None
    applied_config_version: int
    applied_space_version: int
    parent_id: UUID | None


async def lock(connection: Connection, device_id: UUID) -> SelfReport:
    """Lock a device until the transaction ends. Raises Unauthenticated when it was deleted."""
    row = await connection.fetchrow(
        """SELECT name, firmware_version, firmware_told, sub_model, details, host_address, applied_config_version,
                  applied_space_version, parent_id
             FROM devices WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE""",
        device_id,
    )
    if row is None:
        raise Unauthenticated
    return SelfReport(**row)


async def update(
    change: Change, device_id: UUID, was: SelfReport, now: SelfReport, *, firmware_told: bool = False
) -> None:
    """Store what a locked device says of itself; a new name counts up `info_version`.

    Another firmware may be offered other firmware. `firmware_told` says that its version is in this report, be it the
    same: a device that fell back to it says so.
    """
    renamed = now.name != was.name
    await change.connection.execute(
        """UPDATE devices SET name = $2, firmware_version = $3, sub_model = $4, details = $5, host_address = $6,
                  applied_config_version = $7, applied_space_version = $8, parent_id = $9,
                  vouched_for = vouched_for AND parent_id IS NOT DISTINCT FROM $9, info_version = info_version + $10,
                  firmware_told = $11, firmware_reported_at = coalesce($12, firmware_reported_at)
            WHERE id = $1""",
        device_id,
        now.name,
        now.firmware_version,
        now.sub_model,
        now.details,
        now.host_address,
        now.applied_config_version,
        now.applied_space_version,
        now.parent_id,
        int(renamed),
        now.firmware_told,
        change.moment if firmware_told else None,
    )
    if now.firmware_version != was.firmware_version:
        change.record(device_id, FirmwareUpdated(version=now.firmware_version, previous_version=was.firmware_version))
    labels.record_name(change, device_id, was.name, now.name)
    if renamed or now.firmware_version != was.firmware_version:
        change.touched(device_id)


async def lock_new_parent(connection: Connection, device: DeviceCaller, parent_id: UUID) -> None:
    """Make sure that a device may have this parent until the transaction ends; before the device itself is locked.

    The parent is of the same vendor; that of a claimed device has the same owner. Raises DoesNotFit.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _PARENTS_LOCK)
    rows = await connection.fetch(
        """SELECT d.id, m.organization_id AS vendor_id, d.organization_id AS owner_id
             FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.id = ANY($1::uuid[]) AND d.deleted_at IS NULL ORDER BY d.id FOR NO KEY UPDATE OF d""",
        [device.id, parent_id],
    )
    locked = {row["id"]: row for row in rows}
    own, parent = locked.get(device.id), locked.get(parent_id)
    if own is None:
        raise Unauthenticated
    if parent is None or parent["vendor_id"] != own["vendor_id"] or own["owner_id"] not in (None, parent["owner_id"]):
        raise DoesNotFit(PARENT_UNKNOWN)
    if await connection.fetchval(
        """WITH RECURSIVE above AS (
               SELECT id, parent_id FROM devices WHERE id = $1
               UNION SELECT d.id, d.parent_id FROM devices d JOIN above ON d.id = above.parent_id)
           SELECT EXISTS (SELECT FROM above WHERE id = $2)""",
        parent_id,
        device.id,
    ):
        raise DoesNotFit(BELOW_ITSELF)
    await check_room(connection, parent_id)


async def put_cloud_settings(connection: Connection, device_id: UUID, given: Mapping[str, Any]) -> None:
    """Set properties of a device, in a transaction; null removes one.

    `SUSPENDS_INCIDENTS` is more than kept: it suspends the opening of incidents, as the owner can. Raises DoesNotFit
    when there are too many, or that one is not true or false; Unauthenticated when the device was deleted.
    """
    settings: dict[str, Any] | None = await connection.fetchval(
        "SELECT cloud_settings FROM devices WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", device_id
    )
    if settings is None:
        raise Unauthenticated
    settings = {name: value for name, value in {**settings, **given}.items() if value is not None}
    if len(settings) > CLOUD_SETTINGS_MAX:
        raise DoesNotFit(TOO_MANY_SETTINGS)
    suspended = given.get(SUSPENDS_INCIDENTS)
    if not isinstance(suspended, bool | None):
        raise DoesNotFit(f"{SUSPENDS_INCIDENTS} must be true or false")
    await connection.execute(
        """UPDATE devices SET cloud_settings = $2,
                  incidents_suspended = CASE WHEN $3 THEN $4 ELSE incidents_suspended END WHERE id = $1""",
        device_id,
        settings,
        SUSPENDS_INCIDENTS in given,
        bool(suspended),
    )
