"""The telemetry history of several devices of the vendor's models, whoever owns them.

The log is kept by device and by project, not by model: so many devices as can be read one by one are read, and for more
the call has to say which it means.
"""

from uuid import UUID

from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page, Window
from gateway.api.scopes import VendorScope
from gateway.api.validation import Name
from gateway.organization.histories import RangeQuery, history_page
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores import models
from gateway.stores.devices import owner_view
from gateway.stores.events import telemetry_history
from gateway.stores.events.examining import Part, Range
from gateway.stores.events.telemetry_history import FEW_DEVICES, HistoryItem, ListedMessage
from schemas import serials
from schemas.telemetry import DeviceStatus

TOO_MANY = f"Device id must be given: more than {FEW_DEVICES} devices fit"


class VendorHistoriesQuery(RangeQuery, kw_only=True):
    """Which messages: of a device, of those of a model, with a serial number, with a status."""

    device_id: UUID | None = None
    model_id: UUID | None = None
    sn: Name | None = None
    status: DeviceStatus | None = None

    def is_long(self) -> bool:
        """See `HistoriesQuery`."""
        return super().is_long() or self.status is not None


@endpoint(
    "GET",
    "/core/v1/partner/devices/histories",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "Device or model not found.", 422: f"More than {FEW_DEVICES} devices fit, and none of them is named."},
)
async def list_vendor_histories(
    services: Services, partner: VendorScope, query: VendorHistoriesQuery
) -> Page[HistoryItem]:
    """List telemetry messages of up to 20 devices of the partner's models, newest first."""
    vendor = partner.id
    since_until = query.range(services.clock())
    if query.device_id is not None:
        await owner_view.read_of_vendor(services.postgres, vendor, query.device_id)
    if query.model_id is not None:
        await models.read(services.postgres, vendor, query.model_id)
    sn = None if query.sn is None else serials.normalized(query.sn)
    device_ids = await owner_view.ids_of_vendor(
        services.postgres, vendor, device_id=query.device_id, model_id=query.model_id, sn=sn, limit=FEW_DEVICES + 1
    )
    if len(device_ids) > FEW_DEVICES:
        raise DoesNotFit(TOO_MANY)

    async def read(within: Range, window: Window) -> Part[ListedMessage]:
        return await telemetry_history.page_of_devices(
            services.postgres,
            services.shards,
            device_ids,
            within,
            status=query.status,
            offset=window.offset,
            limit=window.limit,
        )

    filters = (query.device_id, query.model_id, sn, query.status)
    scope = ("partner histories", vendor, query.since, query.until, *filters)
    return await history_page(services, scope, query, since_until, read)


ENDPOINTS = (list_vendor_histories,)
