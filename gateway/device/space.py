"""Where the device is, for devices that follow the place they are in."""

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, endpoint
from gateway.refusals import DoesNotFit, Unauthenticated
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import device_view, moving
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.tenants import spaces
from schemas.postgres import Connection

NOT_IN_SPACE = "Device not in space"
NO_PARENT = "Device has no parent to follow"
PARENT_NOT_IN_SPACE = "Parent not in space"


class Coordinates(Struct):
    """Degrees north and east."""

    lat: float
    lng: float


class Location(Struct):
    """A point on Earth. `utc_offset` is in seconds, now."""

    coordinates: Coordinates | None
    utc_offset: int
    name: str | None


class DevicePlace(Struct):
    """The device's space. `location` is null until someone gave it coordinates or a name."""

    location: Location | None
    temperature_units: spaces.TemperatureUnits
    maintenance: bool
    name: str
    local_time: str
    device_id: UUID


class SpaceMove(Struct):
    """Where to: the space of the device's parent, or the project's space for devices that nobody placed."""

    target: Literal["follow_parent", "unsorted"]


@endpoint("GET", "/v1/devices/{device_id}/space", caller=DEVICE, errors={422: "Nobody claimed the device."})
async def read_space(services: Services, device: DeviceCaller) -> DevicePlace:
    """Read the device's space."""
    space = await device_view.read_space(services.postgres, device.id)
    if space is None:
        raise DoesNotFit(NOT_IN_SPACE)
    return _shown(space, device.id, services.clock())


@endpoint(
    "PUT",
    "/v1/devices/{device_id}/space/move",
    caller=DEVICE,
    errors={422: "Nobody claimed the device, or it has no parent in a space of the same owner."},
)
async def move(services: Services, device: DeviceCaller, body: SpaceMove) -> DevicePlace:
    """Move the device, with the devices below it that share its space; answers the space it is in then."""
    owner_id, project_id = device.organization_id, device.project_id
    if owner_id is None or project_id is None:
        raise DoesNotFit(NOT_IN_SPACE)
    async with change(services) as changed:
        if body.target == "unsorted":
            space_id = await spaces.unsorted(changed.connection, owner_id, project_id)
        else:
            space_id = await _space_of_parent(changed.connection, device, owner_id)
        await moving.move(changed, owner_id, device.id, space_id)
    space = await device_view.read_space(services.postgres, device.id)
    if space is None:
        raise Unauthenticated
    return _shown(space, device.id, services.clock())


async def _space_of_parent(connection: Connection, device: DeviceCaller, owner_id: UUID) -> UUID:
    if device.parent_id is None:
        raise DoesNotFit(NO_PARENT)
    space_id = await moving.space_of_parent(connection, device.parent_id, owner_id)
    if space_id is None:
        raise DoesNotFit(PARENT_NOT_IN_SPACE)
    return space_id


def _shown(space: device_view.SpaceView, device_id: UUID, now: datetime) -> DevicePlace:
    local = now.astimezone(UTC if space.time_zone == "UTC" else ZoneInfo(space.time_zone))
    offset = local.utcoffset()
    assert offset is not None
    location = None
    if (space.latitude, space.longitude, space.location_name) != (None, None, None):
        coordinates = None
        if space.latitude is not None and space.longitude is not None:
            coordinates = Coordinates(space.latitude, space.longitude)
        location = Location(coordinates, int(offset.total_seconds()), space.location_name)
    return DevicePlace(
        location=location,
        temperature_units=space.temperature_units,
        maintenance=space.maintenance,
        name=space.name,
        local_time=local.isoformat(timespec="seconds"),
        device_id=device_id,
    )


ENDPOINTS: tuple[Endpoint, ...] = (read_space, move)
