"""What happened to a device: what its sensors told, and what was done to it."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct, field

from gateway.api.page_tokens import TOKEN_CHARACTERS_MAX
from gateway.api.scopes import FleetScope
from gateway.organization.histories import Moment, moment_of
from gateway.permissions import Permission
from gateway.portal.device.shared import PATH, project_of, shown
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services
from gateway.v2 import history
from gateway.v2.history import Event, HistoryQuery
from schemas.events import EventType
from schemas.ids import device_name

SHOWN = 50


class ShownQuery(Struct, kw_only=True):
    """Which events, and which part of the list."""

    type: EventType | None = None
    since: Moment | None = field(default=None, name="from")
    until: Moment | None = field(default=None, name="to")
    page_token: Annotated[str, Meta(max_length=TOKEN_CHARACTERS_MAX)] = ""


@page("GET", f"{PATH}/events", permission=Permission.READ)
async def events(services: Services, fleet: FleetScope, device_id: UUID, query: ShownQuery) -> View:
    """The events of a device while it was in its project, newest first."""
    wanted = HistoryQuery(
        event_types=[] if query.type is None else [query.type],
        start_time=None if query.since is None else moment_of("From", query.since),
        end_time=None if query.until is None else moment_of("To", query.until),
        page_size=SHOWN,
        page_token=query.page_token,
    )
    project = await project_of(services, fleet, device_id)
    found = await history.list_events(services, project, device_name(device_id), wanted)
    raw: list[Any] = found.events
    values = {
        "asked": query,
        "events": [msgspec.json.decode(one, type=Event) for one in raw],
        "next_page_token": found.next_page_token,
        "types": [(one.value, one.value) for one in EventType],
    }
    return await shown(services, fleet.organization, device_id, "events", values)


PAGES = (events,)
