"""The owner's devices: list, read, name, move, delete."""

from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope, demand
from gateway.api.validation import Label, check_depth
from gateway.organization.configs import CONFIG_BYTES_MAX
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import config, deletion, labels, locking, moving, owner_view
from gateway.stores.devices.owner_view import OwnedDevice
from gateway.stores.tenants import projects, spaces


class DevicesQuery(PageQuery, kw_only=True):
    """Which devices: those of a project, or of a space with all spaces below it."""

    space_id: UUID | None = None
    project_id: UUID | None = None

    def is_long(self) -> bool:
        """So is a page of a space, below which there may be very many others."""
        return super().is_long() or self.space_id is not None


class DeviceChange(Struct):
    """What the owner calls and notes of a device, and its whole config; members that are absent stay."""

    name: Label | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET
    configuration: dict[str, Any] | UnsetType = UNSET


class DeviceMove(Struct):
    """Where a device goes."""

    space_id: UUID


@endpoint(
    "GET",
    "/core/v1/organization/devices",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "The space or project is not the organization's."},
)
async def list_devices(services: Services, organization: OrganizationScope, query: DevicesQuery) -> Page[OwnedDevice]:
    """List the organization's devices, oldest registration first."""
    owner = organization.id
    if query.project_id is not None:
        await projects.read(services.postgres, owner, query.project_id)
    if query.space_id is not None:
        await spaces.read(services.postgres, owner, query.space_id)

    async def read(window: Window) -> list[OwnedDevice]:
        return await owner_view.page(
            services.postgres,
            owner,
            project_id=query.project_id,
            space_id=query.space_id,
            after=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("organization devices", owner, query.project_id, query.space_id)
    return await paging.read_page(
        services, scope, query.page, query.per_page, read, boundary=lambda device: [str(device.id)]
    )


@endpoint(
    "GET",
    "/core/v1/organization/devices/{device_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def read_device(services: Services, organization: OrganizationScope, device_id: UUID) -> OwnedDevice:
    """Read one device."""
    return await owner_view.read(services.postgres, organization.id, device_id)


@endpoint(
    "PATCH",
    "/core/v1/organization/devices/{device_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
    body_bytes_max=CONFIG_BYTES_MAX,
)
async def change_device(
    services: Services, organization: OrganizationScope, device_id: UUID, body: DeviceChange
) -> OwnedDevice:
    """Change a device's name, details and config; the device is told when something is different."""
    check_depth("Details", body.details)
    check_depth("Configuration", body.configuration)
    async with change(services) as changed:
        device = await locking.lock(changed.connection, organization.id, device_id)
        await labels.rename(
            changed,
            device,
            name=device.name if body.name is UNSET else body.name,
            details=device.details if body.details is UNSET else body.details,
        )
        if body.configuration is not UNSET:
            await config.put_of_owner(changed, device, body.configuration, None)
    return await owner_view.read(services.postgres, organization.id, device_id)


@endpoint(
    "DELETE",
    "/core/v1/organization/devices/{device_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
)
async def delete_device(services: Services, organization: OrganizationScope, device_id: UUID) -> Success:
    """Delete a device; its keys end, and it has to register again to come back."""
    async with change(services) as changed:
        await locking.lock_with_all_below(changed.connection, organization.id, device_id)
        await deletion.delete(changed, [device_id])
    return Success()


@endpoint(
    "POST",
    "/core/v1/organization/devices/{device_id}/move",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
)
async def move_device(
    services: Services, organization: OrganizationScope, device_id: UUID, body: DeviceMove
) -> OwnedDevice:
    """Put a device into another space; devices below it that share its space move along."""
    owner = organization.id
    async with change(services) as changed:
        moved = await moving.move(changed, owner, device_id, body.space_id)
        if moved.from_project_id != moved.to_project_id:
            demand(organization.permissions, Permission.ADMINISTER)
    return await owner_view.read(services.postgres, owner, device_id)


ENDPOINTS = (list_devices, read_device, change_device, delete_device, move_device)
