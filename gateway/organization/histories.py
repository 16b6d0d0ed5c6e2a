"""The telemetry history of the owner's devices."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Raw, Struct, field

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import PER_PAGE, Page, PageNumber, Window
from gateway.api.scopes import FleetScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.devices import owner_view
from gateway.stores.events import telemetry_history
from gateway.stores.events.examining import Part, Range
from gateway.stores.events.telemetry_history import HistoryItem, ListedMessage
from schemas import times
from schemas.telemetry import AHEAD_MAX, DeviceStatus
from schemas.times import EPOCH

PER_PAGE_MAX = 1_000
RANGE_MAX = timedelta(days=31)
RANGE_DEFAULT = timedelta(days=1)

LATEST = datetime(3000, 1, 1, tzinfo=UTC)
Moment = Annotated[
    str, Meta(max_length=64, description="Seconds since 1970, or ISO 8601; UTC where it names no offset.")
]
_UNQUOTED_OFFSET = re.compile(r"(?<=[0-9]) (?=[0-9]{2}:?[0-9]{2}$)")
"""A plus sign that a client did not percent-encode."""


class RangeQuery(Struct, kw_only=True):
    """A time range of at most 31 days, by default the last day; `from` is in it, `to` is not."""

    since: Moment | None = field(default=None, name="from")
    until: Moment | None = field(default=None, name="to")
    page: PageNumber = 1
    per_page: Annotated[int, Meta(ge=1, le=PER_PAGE_MAX)] = PER_PAGE

    def is_long(self) -> bool:
        """See `paging.PageQuery`."""
        return paging.reaches_far(self.page, self.per_page)

    def range(self, now: datetime) -> tuple[datetime, datetime]:
        """Begin and end. Raises DoesNotFit."""
        return range_of(now, self.since, self.until)


def range_of(now: datetime, since: str | None, until: str | None) -> tuple[datetime, datetime]:
    """A time range as a client asks for it; by default the last day. Raises DoesNotFit for more than 31 days."""
    ends = now if until is None else moment_of("To", until)
    begins = ends - RANGE_DEFAULT if since is None else moment_of("From", since)
    if ends <= begins:
        raise DoesNotFit("From must be before to")
    if ends - begins > RANGE_MAX:
        raise DoesNotFit(f"From and to are at most {RANGE_MAX.days} days apart")
    # Devices' clocks may be ahead: what they dated later than now is the newest there is.
    return begins, ends if until is not None else now + AHEAD_MAX


def moment_of(member: str, text: str) -> datetime:
    """A time as a client writes it in a query. Raises DoesNotFit."""
    try:
        try:
            found = times.of_number(float(text))
        except ValueError:
            found = times.of_text(_UNQUOTED_OFFSET.sub("+", text) if "T" in text.upper() else text)
        if EPOCH <= found <= LATEST:
            return found
    except (ValueError, OverflowError):
        pass
    raise DoesNotFit(f"{member} must be seconds since 1970, or a time in ISO 8601 such as 2026-05-04T12:00:00Z")


class HistoriesQuery(RangeQuery, kw_only=True):
    """Which messages: of a device, of devices with a name, of those in a space and below it, with a status."""

    device_id: UUID | None = None
    name: Label | None = None
    space_id: UUID | None = None
    status: DeviceStatus | None = None

    def is_long(self) -> bool:
        """Narrowed by these, a page may have to look at as much as it may look at, for few items."""
        return super().is_long() or (self.name, self.space_id, self.status) != (None, None, None)


@endpoint(
    "GET",
    "/core/v1/organization/devices/histories",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "The device or space is not the organization's."},
)
async def list_histories(services: Services, fleet: FleetScope, query: HistoriesQuery) -> Page[HistoryItem]:
    """List telemetry messages, newest first; also of devices that were deleted since."""
    owner = fleet.id
    since_until = query.range(services.clock())
    if query.device_id is not None:
        await owner_view.ever_owned(services.postgres, owner, query.device_id)
    if query.space_id is not None:
        await fleet.at(services, query.space_id)
    project_ids = await fleet.projects(services)

    async def read(within: Range, window: Window) -> Part[ListedMessage]:
        return await telemetry_history.page(
            services.log,
            services.shards,
            project_ids,
            within,
            device_id=query.device_id,
            space_id=query.space_id,
            name=query.name,
            status=query.status,
            offset=window.offset,
            limit=window.limit,
        )

    filters = (query.device_id, query.space_id, query.name, query.status)
    scope = ("histories", owner, fleet.project_ids, query.since, query.until, *filters)
    return await history_page(services, scope, query, since_until, read)


async def history_page(
    services: Services,
    scope: tuple[object, ...],
    query: RangeQuery,
    since_until: tuple[datetime, datetime],
    read: Callable[[Range, Window], Awaitable[Part[ListedMessage]]],
) -> Page[HistoryItem]:
    """A page of messages that the caller may see."""

    async def read_part(window: Window) -> paging.Part[ListedMessage]:
        before = None if window.after is None else telemetry_history.position(window.after)
        part = await read(Range(*since_until, before), window)
        return paging.Part(part.rows, None if part.up_to is None else telemetry_history.numbers(part.up_to))

    found = await paging.read_part(
        services, scope, query.page, query.per_page, read_part, ListedMessage.boundary, size=lambda one: len(one.json)
    )
    return as_json(found)


def as_json(found: Page[ListedMessage]) -> Page[HistoryItem]:
    """A page of messages that were made into JSON where they were read."""
    items: list[Any] = [Raw(one.json) for one in found.items]
    return Page(items, found.has_next_page, found.next_page)


ENDPOINTS = (list_histories,)
