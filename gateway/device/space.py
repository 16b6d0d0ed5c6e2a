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
from gateway.stores.devices import device_view, owner_changes
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.replies import publish
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
    temperature_units: Literal["celsius", "fahrenheit"]
    maintenance: bool
    name: str
    local_time: str
    device_id: UUID


class Move(Struct):
    """Where to: the space of the device's parent, or the project's space for devices that nobody placed."""

    target: Literal["follow_parent", "unsorted"]


@endpoint("GET", "/v1/devices/{device_id}/space", caller=DEVICE, errors={422: "Nobody claimed the device."})
async def read_space(services: Services, device: DeviceCaller) -> DevicePlace:
    """Read the device's space."""
    place = await device_view.place(services.postgres, device.id)
    if place is None:
        raise DoesNotFit(NOT_IN_SPACE)
    return _shown(place, device.id, services.clock())


@endpoint(
    "PUT",
    "/v1/devices/{device_id}/space/move",
    caller=DEVICE,
    errors={422: "Nobody claimed the device, or it has no parent in a space of the same owner."},
)
async def move(services: Services, device: DeviceCaller, body: Move) -> DevicePlace:
    """Move the device, with the devices below it that share its space; answers the space it is in then."""
    async with services.postgres.acquire() as connection:
        async with connection.transaction():
            moved = await _move(connection, device, body.target, services.clock())
        await publish(services, connection, moved)
        place = await device_view.place(connection, device.id)
    if place is None:
        raise Unauthenticated
    return _shown(place, device.id, services.clock())


async def _move(connection: Connection, device: DeviceCaller, target: str, moment: datetime) -> list[UUID]:
    owner = device.organization_id
    if owner is None or device.project_id is None:
        raise DoesNotFit(NOT_IN_SPACE)
    if target == "unsorted":
        space_id = (await spaces.find_or_create(connection, owner, device.project_id, [spaces.UNSORTED])).id
    elif device.parent_id is None:
        raise DoesNotFit(NO_PARENT)
    else:
        parents = await device_view.space_of_parent(connection, device.parent_id, owner)
        if parents is None:
            raise DoesNotFit(PARENT_NOT_IN_SPACE)
        space_id = parents
    # The space is locked before the device, as by whoever changes a space and tells the devices in it.
    project_id = await owner_changes.space_project(connection, owner, space_id)
    held = await owner_changes.hold(connection, owner, device.id)
    return await owner_changes.move(connection, held, owner, project_id, space_id, moment)


def _shown(place: device_view.Place, device_id: UUID, now: datetime) -> DevicePlace:
    local = now.astimezone(UTC if place.time_zone == "UTC" else ZoneInfo(place.time_zone))
    offset = local.utcoffset()
    assert offset is not None
    location = None
    if (place.latitude, place.longitude, place.location_name) != (None, None, None):
        coordinates = None
        if place.latitude is not None and place.longitude is not None:
            coordinates = Coordinates(place.latitude, place.longitude)
        location = Location(coordinates, int(offset.total_seconds()), place.location_name)
    return DevicePlace(
        location=location,
        temperature_units=place.temperature_units,
        maintenance=place.maintenance,
        name=place.name,
        local_time=local.isoformat(timespec="seconds"),
        device_id=device_id,
    )


ENDPOINTS: tuple[Endpoint, ...] = (read_space, move)
