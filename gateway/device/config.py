"""The device's config: read after `config_version` grew, or set by the device itself."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.api import bodies
from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.validation import VERSION_MAX, check_depth
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import config as device_configs
from gateway.stores.devices.config import Config
from gateway.stores.devices.identity import DeviceCaller

CONFIG_BYTES_MAX = 64 * 1024
WholeConfig = Annotated[dict[str, Any], Meta(examples=[{"interval_s": 60, "version": 5}])]
_ANSWER = {field.name for field in msgspec.structs.fields(Config)} - {"version"}
"""What the answer to GET has beside the version: a device may send that back as it came."""


class ConfigStored(Struct):
    """The version that the config got."""

    success: bool
    version: int


@endpoint("GET", "/v1/devices/{device_id}/config", caller=DEVICE)
async def read_config(services: Services, device: DeviceCaller) -> Config:
    """Read the device's config; version 0 was never set."""
    return await device_configs.read(services.postgres, device.id)


@endpoint(
    "POST",
    "/v1/devices/{device_id}/config",
    caller=DEVICE,
    errors={422: "The version is not newer than the stored one."},
    body_bytes_max=CONFIG_BYTES_MAX,
)
async def put_config(services: Services, device: DeviceCaller, body: WholeConfig) -> ConfigStored:
    """Store the device's whole config: every member but `version`, which is the next one unless it is given.

    The current version with the config that is stored says that the device applied it. What GET answered is also taken.
    """
    version = bodies.whole(body.pop("version", None))
    if body.keys() == _ANSWER and isinstance(body["config"], dict):
        body = body["config"]
    if version is not None and (type(version) is not int or not 0 <= version <= VERSION_MAX):
        raise DoesNotFit(f"Version must be a whole number between 0 and {VERSION_MAX}")
    check_depth("Config", body)
    async with change(services) as changed:
        version = await device_configs.put(changed, device.id, body, version)
    return ConfigStored(success=True, version=version)


ENDPOINTS: tuple[Endpoint, ...] = (read_config, put_config)
