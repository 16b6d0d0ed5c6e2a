"""What a vendor sees of the devices of its models, whoever owns them. It cannot send commands."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway import paging
from gateway.callers import PartnerCaller
from gateway.endpoint import Success, endpoint
from gateway.organization.commands import CommandsQuery, command_page
from gateway.organization.histories import RangeQuery
from gateway.paging import Page, PageQuery, Window
from gateway.services import Gateway
from gateway.stores import device_deletion, held_devices, histories, models, owned_devices
from gateway.stores.histories import Found, HistoryItem
from gateway.stores.owned_commands import Command
from gateway.stores.owned_devices import Config, Device
from gateway.stores.reply_writer import publish
from gateway.validation import Name, normalized_mac


class DevicesQuery(PageQuery, kw_only=True):
    """Which devices: of one model, with a serial number, with a MAC address."""

    model_id: UUID | None = None
    sn: Name | None = None
    mac: Name | None = None


class Telemetries(Struct):
    """The latest state of a device, with `status` in it; `timestamp` is the time of its newest message."""

    device_id: UUID
    telemetries: dict[str, Any]
    timestamp: datetime | None
    last_seen_at: datetime | None


@endpoint("GET", "/core/v1/partner/devices", errors={404: "Model not found."})
async def list_devices(gateway: Gateway, partner: PartnerCaller, query: DevicesQuery) -> Page[Device]:
    """List the devices of the partner's models, oldest registration first."""
    vendor = partner.organization_id
    mac = None if query.mac is None else normalized_mac(query.mac)
    if query.model_id is not None:
        await models.read(gateway.postgres, vendor, query.model_id)

    async def read(window: Window) -> list[Device]:
        return await owned_devices.page_of_vendor(
            gateway.postgres,
            vendor,
            model_id=query.model_id,
            sn=query.sn,
            mac=mac,
            after=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    return await paging.read_page(
        gateway,
        ("partner devices", vendor, query.model_id, query.sn, mac),
        query.page,
        query.per_page,
        read,
        boundary=lambda device: [str(device.id)],
    )


@endpoint("GET", "/core/v1/partner/devices/{device_id}", errors={404: "Device not found."})
async def read_device(gateway: Gateway, partner: PartnerCaller, device_id: UUID) -> Device:
    """Read one device."""
    return await owned_devices.read_of_vendor(gateway.postgres, partner.organization_id, device_id)


@endpoint("DELETE", "/core/v1/partner/devices/{device_id}", errors={404: "Device not found."})
async def delete_device(gateway: Gateway, partner: PartnerCaller, device_id: UUID) -> Success:
    """Delete a device; its keys end, and it has to register again to come back."""
    async with gateway.postgres.acquire() as connection:
        async with connection.transaction():
            await held_devices.hold_of_vendor(connection, partner.organization_id, device_id)
            deleted = await device_deletion.delete(connection, device_id, gateway.clock())
        await publish(gateway, connection, deleted)
    return Success()


@endpoint("GET", "/core/v1/partner/devices/{device_id}/telemetries", errors={404: "Device not found."})
async def read_telemetries(gateway: Gateway, partner: PartnerCaller, device_id: UUID) -> Telemetries:
    """The latest state of a device."""
    device = await owned_devices.read_of_vendor(gateway.postgres, partner.organization_id, device_id)
    return Telemetries(device.id, device.state, device.state_at, device.last_seen_at)


@endpoint("GET", "/core/v1/partner/devices/{device_id}/config", errors={404: "Device not found."})
async def read_config(gateway: Gateway, partner: PartnerCaller, device_id: UUID) -> Config:
    """The config of a device."""
    return await owned_devices.read_config_of_vendor(gateway.postgres, partner.organization_id, device_id)


@endpoint("GET", "/core/v1/partner/devices/{device_id}/commands", errors={404: "Device not found."})
async def list_commands(
    gateway: Gateway, partner: PartnerCaller, device_id: UUID, query: CommandsQuery
) -> Page[Command]:
    """The commands that a device was sent, newest first."""
    await owned_devices.read_of_vendor(gateway.postgres, partner.organization_id, device_id)
    return await command_page(gateway, device_id, query)


@endpoint("GET", "/core/v1/partner/devices/{device_id}/history", errors={404: "Device not found."})
async def list_history(
    gateway: Gateway, partner: PartnerCaller, device_id: UUID, query: RangeQuery
) -> Page[HistoryItem]:
    """The telemetry messages of a device, newest first."""
    since, until = query.range(gateway.clock())
    await owned_devices.read_of_vendor(gateway.postgres, partner.organization_id, device_id)

    async def read(window: Window) -> list[Found]:
        return await histories.page_of_device(
            gateway.postgres,
            device_id,
            since=since,
            until=until,
            before=None if window.after is None else histories.place(window.after),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("partner history", device_id, query.since, query.until)
    found = await paging.read_page(gateway, scope, query.page, query.per_page, read, boundary=Found.place)
    return Page([one.item for one in found.items], found.has_next_page, found.next_page)


ENDPOINTS = (list_devices, read_device, delete_device, read_telemetries, read_config, list_commands, list_history)
