"""The telemetry history of the vendor's devices, whoever owns them.

The log is kept by device and by project, not by model. So a list goes through the devices some at a time, the oldest
registrations first, and tells what those sent, newest first. A page looks at one such group, or at a part of it, so it
costs the same whatever the number of devices, and may hold few items, or none, and not be the last.

    devices 1 … 100  ──pages──▶ all they sent ──▶ devices 101 … 200 ──▶ …
"""

from uuid import UUID

from gateway.api import paging
from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Boundary, Page, Window
from gateway.api.scopes import VendorScope
from gateway.api.validation import Name
from gateway.organization.histories import RangeQuery, as_json
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores import models
from gateway.stores.devices import owner_view
from gateway.stores.events import telemetry_history
from gateway.stores.events.examining import Range
from gateway.stores.events.telemetry_history import HistoryItem, ListedMessage
from schemas import serials
from schemas.telemetry import DeviceStatus

GROUP = 100
"""Devices of which a page tells: each is looked up in an index of its own."""


class VendorHistoriesQuery(RangeQuery, kw_only=True):
    """Which messages: of a device, of those of a model, with a serial number, with a status; or of all devices."""

    device_id: UUID | None = None
    model_id: UUID | None = None
    sn: Name | None = None
    status: DeviceStatus | None = None

    def is_long(self) -> bool:
        """See `HistoriesQuery`; of many devices each is looked up."""
        return super().is_long() or self.status is not None or (self.device_id, self.sn) == (None, None)


@endpoint(
    "GET",
    "/core/v1/partner/devices/histories",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "Device or model not found."},
)
async def list_vendor_histories(
    services: Services, partner: VendorScope, query: VendorHistoriesQuery
) -> Page[HistoryItem]:
    """List telemetry messages of the devices of the partner's models, newest first.

    Of more than 100 devices the list goes through 100 at a time, those that registered first before the others, and is
    newest first among these; a page may hold few items, or none, and not be the last.
    """
    vendor = partner.id
    since_until = query.range(services.clock())
    if query.device_id is not None:
        await owner_view.read_of_vendor(services.postgres, vendor, query.device_id)
    if query.model_id is not None:
        await models.read(services.postgres, vendor, query.model_id)
    sn = None if query.sn is None else serials.normalized(query.sn)
    group_after = ""

    async def read(window: Window) -> paging.Part[ListedMessage]:
        nonlocal group_after
        place: Boundary = window.after or [""]
        group_after, *numbers = str(place[0]), *place[1:]
        device_ids = await owner_view.ids_of_vendor(
            services.postgres,
            vendor,
            device_id=query.device_id,
            model_id=query.model_id,
            sn=sn,
            after=UUID(group_after) if group_after else None,
            limit=GROUP + 1,
        )
        before = telemetry_history.position(numbers) if numbers else None
        part = await telemetry_history.page_of_devices(
            services.log,
            services.shards,
            device_ids[:GROUP],
            Range(*since_until, before),
            status=query.status,
            offset=window.offset,
            limit=window.limit,
        )
        if part.up_to is not None:
            return paging.Part(part.rows, [group_after, *telemetry_history.numbers(part.up_to)])
        return paging.Part(part.rows, [str(device_ids[GROUP - 1])] if len(device_ids) > GROUP else None)

    filters = (query.device_id, query.model_id, sn, query.status)
    found = await paging.read_part(
        services,
        ("partner histories", vendor, query.since, query.until, *filters),
        query.page,
        query.per_page,
        read,
        boundary=lambda one: [group_after, *one.boundary()],
        size=lambda one: len(one.json),
    )
    return as_json(found)


ENDPOINTS = (list_vendor_histories,)
