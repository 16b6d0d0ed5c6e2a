"""The device itself: reads what is known of it, says what is new, removes itself."""

import logging
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway import identifiers
from gateway.api import fixed_window, validation
from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, Success, endpoint
from gateway.api.validation import NAME_CHARACTERS_MAX, Label, Name, Version
from gateway.refusals import DoesNotFit, Refusal
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import deletion, device_view, self_report
from gateway.stores.devices.device_view import Device
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.devices.self_report import SelfReport
from schemas import keys

log = logging.getLogger(__name__)

PUTS_MAX = 10
PUTS_WINDOW_S = 3600
SETTING_BYTES_MAX = 4 * 1024

CloudSettings = Annotated[dict[Name, Any], Meta(examples=[{"property": "led", "value": "off"}])]


class DeviceReport(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is new on the device; members that are absent stay.

    `config_version` and `space_version` are the versions the device goes by now; a null parent makes it stand alone.
    """

    firmware_version: Label | UnsetType = UNSET
    name: Label | UnsetType = UNSET
    sub_model: Label | UnsetType | None = UNSET
    details: dict[str, Any] | UnsetType = UNSET
    space_version: Version | UnsetType = UNSET
    config_version: Version | UnsetType = UNSET
    parent_id: UUID | UnsetType | None = UNSET
    host_address: Label | UnsetType | None = UNSET


@endpoint("GET", "/v1/devices/{device_id}", caller=DEVICE)
async def read_device(services: Services, device: DeviceCaller) -> Device:
    """Read what is known of the device."""
    return await device_view.read(services.postgres, device.id)


@endpoint(
    "PUT",
    "/v1/devices/{device_id}",
    caller=DEVICE,
    errors={400: "A member is not known.", 429: f"More than {PUTS_MAX} calls in an hour."},
)
async def put_device(services: Services, device: DeviceCaller, body: DeviceReport) -> Device:
    """Tell what is new on the device. A call that is refused for what it says does not count."""
    key = keys.puts(device.shard, str(device.id))
    await fixed_window.count(services, key, calls_max=PUTS_MAX, window_s=PUTS_WINDOW_S, window="an hour")
    try:
        return await _put(services, device, body)
    except Refusal:
        await fixed_window.give_back(services, key)
        raise


async def _put(services: Services, device: DeviceCaller, body: DeviceReport) -> Device:
    if body.details is not UNSET:
        validation.details(body.details)
    async with change(services) as changed:
        if isinstance(body.parent_id, UUID) and body.parent_id != device.parent_id:
            await self_report.lock_new_parent(changed.connection, device, body.parent_id)
        was = await self_report.lock(changed.connection, device.id)
        told = body.firmware_version is not UNSET
        await self_report.update(changed, device.id, was, _merged(was, body), firmware_told=told)
    return await device_view.read(services.postgres, device.id)


def _merged(was: SelfReport, body: DeviceReport) -> SelfReport:
    names = {"config_version": "applied_config_version", "space_version": "applied_space_version"}
    given = {names.get(name, name): getattr(body, name) for name in body.__struct_fields__}
    if body.firmware_version is not UNSET:
        given["firmware_version"], given["firmware_told"] = identifiers.firmware_version(body.firmware_version)
    return msgspec.structs.replace(was, **{name: value for name, value in given.items() if value is not UNSET})


@endpoint("DELETE", "/v1/devices/{device_id}", caller=DEVICE)
async def delete_device(services: Services, device: DeviceCaller) -> Success:
    """Remove the device, and all devices below it; their keys end."""
    async with change(services) as changed:
        await deletion.delete(changed, [device.id])
    return Success()


@endpoint("PUT", "/v1/devices/{device_id}/cloud_settings", caller=DEVICE, body_bytes_max=SETTING_BYTES_MAX)
async def put_cloud_setting(services: Services, device: DeviceCaller, body: CloudSettings) -> Success:
    """Set properties that the device keeps in the cloud; a null value removes one.

    One as `{"property": …, "value": …}`, or some by their names. `incidents.suspend_creation` set to true suspends the
    opening of incidents.
    """
    given = _property(body) if "property" in body else body
    if not given:
        raise DoesNotFit("Property can't be blank: give property and value, or values by their names")
    for value in given.values():
        validation.check_depth("Value", value)
    async with services.postgres.acquire() as connection, connection.transaction():
        await self_report.put_cloud_settings(connection, device.id, given)
    return Success()


def _property(body: CloudSettings) -> CloudSettings:
    name = body["property"]
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARACTERS_MAX:
        raise DoesNotFit(f"Property must be a text of 1 to {NAME_CHARACTERS_MAX} characters")
    if "value" not in body:
        raise DoesNotFit("Value is missing; null removes the property")
    return {name: body["value"]}


ENDPOINTS: tuple[Endpoint, ...] = (read_device, put_device, delete_device, put_cloud_setting)
