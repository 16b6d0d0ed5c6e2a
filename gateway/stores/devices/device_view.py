"""Devices as they see themselves: the row of a device, and where it is.

Everything here is told to, or told by, a device that proved who it is. What its owner sees and changes is in
`owned_devices` and `held_devices`.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from gateway.refusals import DoesNotFit, Unauthenticated
from gateway.stores.devices import labels
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.devices.registration import PARENT_UNKNOWN, check_room
from schemas.postgres import Connection, Executor

BELOW_ITSELF = "Parent id: a device cannot be below itself"
CLOUD_SETTINGS_MAX = 100
TOO_MANY_SETTINGS = f"A device has at most {CLOUD_SETTINGS_MAX} cloud settings"

_PARENTS_LOCK = 0x666C7061
"""Advisory lock of whoever gives a device another parent: two at once could otherwise close a circle."""


class Partner(Struct):
    """What the device is to its vendor."""

    sn: str | None
    mac: str | None
    vendor: str
    model: str


class ConfigVersion(Struct):
    """The config's version; 0 was never set."""

    version: int
    last_updated: datetime | None


class Device(Struct):
    """A device as it sees itself. `state` is the merge of its telemetry, with `status` in it."""

    id: UUID
    partner: Partner
    config: ConfigVersion
    state: dict[str, Any]
    last_seen: datetime | None
    name: str
    firmware_version: str
    claimed: bool
    details: dict[str, Any]


class Own(Struct, kw_only=True):
    """What a device may say of itself, as it is stored."""

    name: str
    firmware_version: str
    sub_model: str | None
    details: dict[str, Any]
    host_address: str | None
    applied_config_version: int
    applied_space_version: int
    parent_id: UUID | None


class Place(Struct):
    """The space of a device."""

    name: str
    latitude: float | None
    longitude: float | None
    location_name: str | None
    time_zone: str
    temperature_units: Literal["celsius", "fahrenheit"]
    maintenance: bool


async def read(connection: Executor, device_id: UUID) -> Device:
    """Raises Unauthenticated when the device was deleted."""
    row = await connection.fetchrow(
        """SELECT d.id, d.sn, d.mac, m.vendor, m.name AS model, d.config_version, d.config_updated_at, d.name,
                  d.firmware_version, d.claimed_at, d.details, st.status, st.telemetries, st.last_seen_at
             FROM devices d JOIN device_models m ON m.id = d.model_id LEFT JOIN device_state st ON st.device_id = d.id
            WHERE d.id = $1 AND d.deleted_at IS NULL""",
        device_id,
    )
    if row is None:
        raise Unauthenticated
    return Device(
        id=row["id"],
        partner=Partner(row["sn"], row["mac"], row["vendor"], row["model"]),
        config=ConfigVersion(row["config_version"], row["config_updated_at"]),
        state=state(row["telemetries"], row["status"]),
        last_seen=row["last_seen_at"],
        name=row["name"],
        firmware_version=row["firmware_version"],
        claimed=row["claimed_at"] is not None,
        details=row["details"],
    )


def state(telemetries: dict[str, Any] | None, status: str | None) -> dict[str, Any]:
    """The merged state as devices are shown it; its status is null until the device told one."""
    return {**flat(telemetries), "status": status}


def flat(telemetries: dict[str, Any] | None) -> dict[str, Any]:
    """The telemetry of a state that also holds the device's status: a key of that name is kept apart."""
    shown = dict(telemetries or {})
    if "status" in shown:
        shown["telemetries.status"] = shown.pop("status")
    return shown


async def hold(connection: Connection, device_id: UUID) -> Own:
    """Lock a device until the transaction ends. Raises Unauthenticated when it was deleted."""
    row = await connection.fetchrow(
        """SELECT name, firmware_version, sub_model, details, host_address, applied_config_version,
                  applied_space_version, parent_id
             FROM devices WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE""",
        device_id,
    )
    if row is None:
        raise Unauthenticated
    return Own(**row)


async def update(connection: Connection, device_id: UUID, was: Own, now: Own, moment: datetime) -> bool:
    """Store what a held device says of itself; True when its name, and with it `info_version`, is another."""
    renamed = now.name != was.name
    await connection.execute(
        """UPDATE devices SET name = $2, firmware_version = $3, sub_model = $4, details = $5, host_address = $6,
                  applied_config_version = $7, applied_space_version = $8, parent_id = $9,
                  info_version = info_version + $10
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
    )
    await labels.tell_name(connection, device_id, was.name, now.name, moment)
    return renamed


async def hold_new_parent(connection: Connection, device: DeviceCaller, parent_id: UUID) -> None:
    """Make sure that a device may have this parent until the transaction ends; before the device itself is held.

    The parent is of the same vendor; that of a claimed device has the same owner. Raises DoesNotFit.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _PARENTS_LOCK)
    vendor_and_owner = """SELECT m.organization_id AS vendor_id, d.organization_id AS owner_id
                            FROM devices d JOIN device_models m ON m.id = d.model_id
                           WHERE d.id = $1 AND d.deleted_at IS NULL"""
    parent = await connection.fetchrow(f"{vendor_and_owner} FOR SHARE OF d", parent_id)
    own = await connection.fetchrow(f"{vendor_and_owner} FOR NO KEY UPDATE OF d", device.id)
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


async def put_cloud_setting(connection: Connection, device_id: UUID, name: str, value: Any) -> None:
    """Set one property of a device, in a transaction; null removes it.

    Raises DoesNotFit when there are too many, Unauthenticated when the device was deleted.
    """
    settings: dict[str, Any] | None = await connection.fetchval(
        "SELECT cloud_settings FROM devices WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", device_id
    )
    if settings is None:
        raise Unauthenticated
    if value is None:
        settings.pop(name, None)
    else:
        settings[name] = value
    if len(settings) > CLOUD_SETTINGS_MAX:
        raise DoesNotFit(TOO_MANY_SETTINGS)
    await connection.execute("UPDATE devices SET cloud_settings = $2 WHERE id = $1", device_id, settings)


async def place(connection: Executor, device_id: UUID) -> Place | None:
    """Where a device is; None while nobody claimed it."""
    row = await connection.fetchrow(
        """SELECT s.name, s.latitude, s.longitude, s.location_name, s.time_zone, s.temperature_units, s.maintenance
             FROM devices d JOIN spaces s ON s.id = d.space_id WHERE d.id = $1 AND d.deleted_at IS NULL""",
        device_id,
    )
    return None if row is None else Place(**row)


async def space_of_parent(connection: Executor, parent_id: UUID, owner_id: UUID) -> UUID | None:
    """The space of a parent that has the same owner."""
    space_id: UUID | None = await connection.fetchval(
        "SELECT space_id FROM devices WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
        parent_id,
        owner_id,
    )
    return space_id
