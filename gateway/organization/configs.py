"""The configs of devices, as their owner reads and edits them."""

from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import CONFIG_BYTES_MAX, check_depth
from gateway.organization.devices import DevicesQuery, page_by_ids
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import config as device_configs
from gateway.stores.devices import locking
from gateway.stores.devices.config import OwnedConfig


class ConfigChange(Struct):
    """The whole config. `version` is the version it was edited from, when the editor wants no other edit lost."""

    config: dict[str, Any]
    version: int | None = None


@endpoint(
    "GET",
    "/core/v1/organization/configs",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "The space or project is not the organization's."},
)
async def list_configs(services: Services, organization: OrganizationScope, query: DevicesQuery) -> Page[OwnedConfig]:
    """List the configs of the organization's devices, oldest registration first, and what each device runs of it."""

    def place(config: OwnedConfig) -> UUID:
        return config.device_id

    return await page_by_ids(services, organization, query, None, device_configs.by_ids, place)


@endpoint(
    "GET",
    "/core/v1/organization/devices/{device_id}/config",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def read_config(services: Services, organization: OrganizationScope, device_id: UUID) -> OwnedConfig:
    """Read a device's config, and what the device runs of it."""
    return await device_configs.read_of_owner(services.postgres, organization.id, device_id)


@endpoint(
    "PUT",
    "/core/v1/organization/devices/{device_id}/config",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
    body_bytes_max=CONFIG_BYTES_MAX,
)
async def put_config(
    services: Services, organization: OrganizationScope, device_id: UUID, body: ConfigChange
) -> OwnedConfig:
    """Replace a device's config; it becomes the next version, which the device is told of."""
    check_depth("Config", body.config)
    async with change(services) as changed:
        device = await locking.lock(changed.connection, organization.id, device_id)
        await device_configs.put_of_owner(changed, device, body.config, body.version)
    return await device_configs.read_of_owner(services.postgres, organization.id, device_id)


ENDPOINTS = (list_configs, read_config, put_config)
