"""What happened to a device: its events, newest first."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_bytes import fitting
from gateway.api.paging import SHORT_ROWS
from gateway.api.scopes import ProjectScope
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound
from gateway.services import Services
from gateway.stores.events import history
from gateway.stores.events.examining import Range
from gateway.v2.moments import LATEST
from gateway.v2.names import DEVICE_UNKNOWN
from schemas import ids
from schemas.events import EventType
from schemas.telemetry import AHEAD_MAX, EARLIEST
from schemas.times import aware

PAGE_SIZE_MAX = 1_000
RANGE_DEFAULT = timedelta(days=1)

HistoryPosition = tuple[datetime, Annotated[int, Meta(ge=0, le=2**63 - 1)]]


class HistoryQuery(Struct, kw_only=True):
    """Which events: of these types, from `start_time` (in it; by default a day before) to `end_time` (not in it)."""

    event_types: list[EventType] = []
    start_time: datetime | None = None
    end_time: datetime | None = None
    page_size: Annotated[int, Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE_MAX
    page_token: Annotated[str, Meta(max_length=page_tokens.TOKEN_CHARACTERS_MAX)] = ""

    def is_long(self) -> bool:
        """See `paging.PageQuery`."""
        return bool(self.event_types) or self.page_size > SHORT_ROWS

    def range(self, now: datetime) -> tuple[datetime, datetime]:
        """Begin and end. Raises DoesNotFit."""
        end = now if self.end_time is None else aware(self.end_time)
        start = max(end, EARLIEST + RANGE_DEFAULT) - RANGE_DEFAULT
        if self.start_time is not None:
            start = aware(self.start_time)
        if not EARLIEST <= start < end <= LATEST:
            raise DoesNotFit("Start time must be before end time, and not before 1970")
        # Devices' clocks may be ahead: what they dated later than now is the newest there is.
        return start, end if self.end_time is not None else now + AHEAD_MAX


class Event(Struct, rename="camel"):
    """Something that happened. `data` has one member, named as the type, except that of `labelsChanged`."""

    event_id: str
    target_name: str
    event_type: EventType
    data: dict[str, Any]
    timestamp: datetime


class Events(Struct, rename="camel"):
    """Part of a list."""

    events: list[Event]
    next_page_token: str


@endpoint(
    "GET",
    "/v2/projects/{project}/devices/{device}/events",
    caller=SERVICE_ACCOUNT,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def list_events(services: Services, project: ProjectScope, device: str, query: HistoryQuery) -> Events:
    """List what happened to a device while it was in the project; of the last day, if nothing else is asked for."""
    device_id = ids.device_of_name(device)
    if device_id is None:
        raise NotFound(DEVICE_UNKNOWN)
    since, until = query.range(services.clock())
    scope = (device_id, query.start_time, query.end_time)
    shard = ids.shard_of(str(device_id).encode(), services.shards)
    place = page_tokens.unseal(scope, query.page_token, HistoryPosition)
    before = None if place is None else (place[0], shard, place[1])
    part = await history.page(
        services.log,
        project.id,
        device_id,
        shard,
        Range(since, until, before),
        event_types=query.event_types,
        limit=query.page_size + 1,
    )
    found = part.rows
    if not found and not await history.belongs(services.postgres, project.id, device_id):
        raise NotFound(DEVICE_UNKNOWN)
    fit = fitting(len(event.json) for event in found[: query.page_size])
    events: list[Any] = [msgspec.Raw(event.json) for event in found[:fit]]
    ends_at = found[fit - 1].place() if len(found) > fit else None
    if ends_at is None and part.up_to is not None:
        ends_at = [part.up_to[0], part.up_to[2]]
    return Events(events, page_tokens.seal(scope, ends_at) if ends_at else "")


ENDPOINTS: tuple[Endpoint, ...] = (list_events,)
