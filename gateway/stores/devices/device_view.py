"""Devices as they see themselves: the row of a device, and the space it is in."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.refusals import Unauthenticated
from gateway.stores.devices import states
from gateway.stores.devices.states import DeviceState
from gateway.stores.tenants.spaces import TemperatureUnits
from schemas.postgres import Executor


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


class SpaceView(Struct):
    """The space of a device."""

    name: str
    latitude: float | None
    longitude: float | None
    location_name: str | None
    time_zone: str
    temperature_units: TemperatureUnits
    maintenance: bool


async def read(connection: Executor, device_id: UUID) -> Device:
    """Raises Unauthenticated when the device was deleted."""
    row = await connection.fetchrow(
        """SELECT d.id, d.sn, d.mac, m.vendor, m.name AS model, d.config_version, d.config_updated_at, d.name,
                  d.firmware_version, d.claimed_at, d.details, d.shard
             FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.id = $1 AND d.deleted_at IS NULL""",
        device_id,
    )
    if row is None:
        raise Unauthenticated
    seen = (await states.read(connection, [(row["shard"], device_id)])).get(device_id, states.NEVER_SEEN)
    return Device(
        id=row["id"],
        partner=Partner(row["sn"], row["mac"], row["vendor"], row["model"]),
        config=ConfigVersion(row["config_version"], row["config_updated_at"]),
        state=shown(seen),
        last_seen=seen.last_seen_at,
        name=row["name"],
        firmware_version=row["firmware_version"],
        claimed=row["claimed_at"] is not None,
        details=row["details"],
    )


async def has_details(connection: Executor, device_id: UUID) -> bool:
    """Whether a device has told anything of itself. Raises Unauthenticated when it was deleted."""
    found: bool | None = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM json_object_keys(details)) FROM devices WHERE id = $1 AND deleted_at IS NULL",
        device_id,
    )
    if found is None:
        raise Unauthenticated
    return found


def shown(state: DeviceState) -> dict[str, Any]:
    """The merged state as devices are shown it; its status is null until the device told one."""
    return {**flat(state.telemetries), "status": state.status}


def flat(telemetries: dict[str, Any]) -> dict[str, Any]:
    """The telemetry of a state that also holds the device's status: a key of that name is kept apart."""
    shown = dict(telemetries)
    if "status" in shown:
        shown["telemetries.status"] = shown.pop("status")
    return shown


async def read_space(connection: Executor, device_id: UUID) -> SpaceView | None:
    """Where a device is; None while nobody claimed it."""
    row = await connection.fetchrow(
        """SELECT s.name, s.latitude, s.longitude, s.location_name, s.time_zone, s.temperature_units, s.maintenance
             FROM devices d JOIN spaces s ON s.id = d.space_id WHERE d.id = $1 AND d.deleted_at IS NULL""",
        device_id,
    )
    return None if row is None else SpaceView(**row)
