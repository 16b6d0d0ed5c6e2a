"""The owner's devices: list, read, name, move, delete."""

from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from gateway import paging
from gateway.callers import OrganizationCaller
from gateway.endpoint import Success, endpoint
from gateway.paging import Page, PageQuery, Window
from gateway.services import Gateway
from gateway.stores import device_deletion, held_devices, owned_devices, projects, spaces
from gateway.stores.owned_devices import Device
from gateway.stores.reply_writer import publish
from gateway.validation import Label, check_depth


class DevicesQuery(PageQuery, kw_only=True):
    """Which devices: those of a project, or of a space with all spaces below it."""

    space_id: UUID | None = None
    project_id: UUID | None = None


class DeviceChange(Struct):
    """What the owner calls and notes of a device; members that are absent stay."""

    name: Label | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET


class Move(Struct):
    """Where a device goes."""

    space_id: UUID


@endpoint("GET", "/core/v1/organization/devices", errors={404: "The space or project is not the organisation's."})
async def list_devices(gateway: Gateway, organization: OrganizationCaller, query: DevicesQuery) -> Page[Device]:
    """List the organisation's devices, oldest registration first."""
    owner = organization.organization_id
    if query.project_id is not None:
        await projects.read(gateway.postgres, owner, query.project_id)
    if query.space_id is not None:
        await spaces.read(gateway.postgres, owner, query.space_id)

    async def read(window: Window) -> list[Device]:
        return await owned_devices.page(
            gateway.postgres,
            owner,
            project_id=query.project_id,
            space_id=query.space_id,
            after=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("organization devices", owner, query.project_id, query.space_id)
    return await paging.read_page(
        gateway, scope, query.page, query.per_page, read, boundary=lambda device: [str(device.id)]
    )


@endpoint("GET", "/core/v1/organization/devices/{device_id}", errors={404: "Device not found."})
async def read_device(gateway: Gateway, organization: OrganizationCaller, device_id: UUID) -> Device:
    """Read one device."""
    return await owned_devices.read(gateway.postgres, organization.organization_id, device_id)


@endpoint("PATCH", "/core/v1/organization/devices/{device_id}", errors={404: "Device not found."})
async def change_device(
    gateway: Gateway, organization: OrganizationCaller, device_id: UUID, body: DeviceChange
) -> Device:
    """Change a device's name and details; the device is told when something is different."""
    check_depth("Details", body.details)
    async with gateway.postgres.acquire() as connection:
        async with connection.transaction():
            held = await held_devices.hold(connection, organization.organization_id, device_id)
            changed = await held_devices.update(
                connection,
                held,
                name=held.name if body.name is UNSET else body.name,
                details=held.details if body.details is UNSET else body.details,
                moment=gateway.clock(),
            )
        if changed:
            await publish(gateway, connection, [device_id])
        return await owned_devices.read(connection, organization.organization_id, device_id)


@endpoint("DELETE", "/core/v1/organization/devices/{device_id}", errors={404: "Device not found."})
async def delete_device(gateway: Gateway, organization: OrganizationCaller, device_id: UUID) -> Success:
    """Delete a device; its keys end, and it has to register again to come back."""
    async with gateway.postgres.acquire() as connection:
        async with connection.transaction():
            await held_devices.hold(connection, organization.organization_id, device_id)
            deleted = await device_deletion.delete(connection, device_id, gateway.clock())
        await publish(gateway, connection, deleted)
    return Success()


@endpoint("POST", "/core/v1/organization/devices/{device_id}/move", errors={404: "Device not found."})
async def move_device(gateway: Gateway, organization: OrganizationCaller, device_id: UUID, body: Move) -> Device:
    """Put a device into another space; devices below it that share its space move along."""
    owner = organization.organization_id
    async with gateway.postgres.acquire() as connection:
        async with connection.transaction():
            # The space is locked before the device, as by whoever changes a space and tells the devices in it.
            await owned_devices.read(connection, owner, device_id)
            project_id = await held_devices.space_project(connection, owner, body.space_id)
            held = await held_devices.hold(connection, owner, device_id)
            moved = await held_devices.move(connection, held, owner, project_id, body.space_id, gateway.clock())
        await publish(gateway, connection, moved)
        return await owned_devices.read(connection, owner, device_id)


ENDPOINTS = (list_devices, read_device, change_device, delete_device, move_device)
