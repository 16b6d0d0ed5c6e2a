"""The config of a device, as its owner reads and edits it."""

from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import check_depth
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.devices import owner_changes, owner_view
from gateway.stores.devices.owner_view import Config
from gateway.stores.replies import publish

CONFIG_BYTES_MAX = 128 * 1024


class ConfigChange(Struct):
    """The whole config. `version` is the version it was edited from, when the editor wants no other edit lost."""

    config: dict[str, Any]
    version: int | None = None


@endpoint(
    "GET",
    "/core/v1/organization/devices/{device_id}/config",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def read_config(services: Services, organization: OrganizationScope, device_id: UUID) -> Config:
    """Read a device's config."""
    return await owner_view.read_config(services.postgres, organization.id, device_id)


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
) -> Config:
    """Replace a device's config; it becomes the next version, which the device is told of."""
    check_depth("Config", body.config)
    moment = services.clock()
    async with services.postgres.acquire() as connection:
        async with connection.transaction():
            held = await owner_changes.hold(connection, organization.id, device_id)
            if body.version is not None and body.version != held.config_version:
                raise DoesNotFit(f"Error setting config with old version, latest is {held.config_version}")
            version = await owner_changes.put_config(connection, held, body.config, moment)
        await publish(services, connection, [device_id])
    return Config(held.name, version, moment, body.config, device_id)


ENDPOINTS = (read_config, put_config)
