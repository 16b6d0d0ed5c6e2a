"""What a vendor sees of the devices of its models, whoever owns them. It cannot send commands."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.api import paging
from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import VendorScope
from gateway.api.validation import Name
from gateway.identifiers import normalized_mac
from gateway.organization.commands import CommandsQuery, command_page
from gateway.organization.histories import RangeQuery, history_page
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores import models
from gateway.stores.change import change
from gateway.stores.commands.sending import Command
from gateway.stores.devices import config as device_configs
from gateway.stores.devices import deletion, locking, owner_view
from gateway.stores.devices.config import OwnedConfig
from gateway.stores.devices.owner_view import OwnedDevice
from gateway.stores.events import telemetry_history
from gateway.stores.events.examining import Part, Range
from gateway.stores.events.telemetry_history import HistoryItem, ListedMessage
from schemas import serials


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


@endpoint(
    "GET", "/core/v1/partner/devices", caller=PARTNER_KEY, permission=Permission.READ, errors={404: "Model not found."}
)
async def list_devices(services: Services, partner: VendorScope, query: DevicesQuery) -> Page[OwnedDevice]:
    """List the devices of the partner's models, oldest registration first."""
    vendor = partner.id
    mac = None if query.mac is None else normalized_mac(query.mac)
    sn = None if query.sn is None else serials.normalized(query.sn)
    if query.model_id is not None:
        await models.read(services.postgres, vendor, query.model_id)

    async def read(window: Window) -> list[OwnedDevice]:
        return await owner_view.page_of_vendor(
            services.postgres,
            vendor,
            model_id=query.model_id,
            sn=sn,
            mac=mac,
            after=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    return await paging.read_page(
        services,
        ("partner devices", vendor, query.model_id, sn, mac),
        query.page,
        query.per_page,
        read,
        boundary=lambda device: [str(device.id)],
    )


@endpoint(
    "GET",
    "/core/v1/partner/devices/{device_id}",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def read_device(services: Services, partner: VendorScope, device_id: UUID) -> OwnedDevice:
    """Read one device."""
    return await owner_view.read_of_vendor(services.postgres, partner.id, device_id)


@endpoint(
    "DELETE",
    "/core/v1/partner/devices/{device_id}",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    errors={404: "Device not found."},
)
async def delete_device(services: Services, partner: VendorScope, device_id: UUID) -> Success:
    """Delete a device; its keys end, and it has to register again to come back."""
    async with change(services) as changed:
        await locking.check_of_vendor(changed.connection, partner.id, device_id)
        await deletion.delete(changed, [device_id])
    return Success()


@endpoint(
    "GET",
    "/core/v1/partner/devices/{device_id}/telemetries",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def read_telemetries(services: Services, partner: VendorScope, device_id: UUID) -> Telemetries:
    """The latest state of a device."""
    device = await owner_view.read_of_vendor(services.postgres, partner.id, device_id)
    return Telemetries(device.id, device.state, device.state_at, device.last_seen_at)


@endpoint(
    "GET",
    "/core/v1/partner/devices/{device_id}/config",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def read_config(services: Services, partner: VendorScope, device_id: UUID) -> OwnedConfig:
    """The config of a device."""
    return await device_configs.read_of_vendor(services.postgres, partner.id, device_id)


@endpoint(
    "GET",
    "/core/v1/partner/devices/{device_id}/commands",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def list_commands(
    services: Services, partner: VendorScope, device_id: UUID, query: CommandsQuery
) -> Page[Command]:
    """The commands that a device was sent, newest first."""
    await owner_view.read_of_vendor(services.postgres, partner.id, device_id)
    return await command_page(services, device_id, query)


@endpoint(
    "GET",
    "/core/v1/partner/devices/{device_id}/history",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def list_history(
    services: Services, partner: VendorScope, device_id: UUID, query: RangeQuery
) -> Page[HistoryItem]:
    """The telemetry messages of a device, newest first."""
    since_until = query.range(services.clock())
    await owner_view.read_of_vendor(services.postgres, partner.id, device_id)

    async def read(within: Range, window: Window) -> Part[ListedMessage]:
        return await telemetry_history.page_of_devices(
            services.log, services.shards, [device_id], within, offset=window.offset, limit=window.limit
        )

    scope = ("partner history", device_id, query.since, query.until)
    return await history_page(services, scope, query, since_until, read)


ENDPOINTS = (list_devices, read_device, delete_device, read_telemetries, read_config, list_commands, list_history)
