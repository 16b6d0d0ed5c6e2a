"""The fleet as a list: found, filtered, with the columns that somebody wants, and exported."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.api.callers import people
from gateway.api.paging import Page
from gateway.api.scopes import FleetScope
from gateway.organization import devices, spaces
from gateway.organization import fleet as fleets
from gateway.organization.devices import DevicesQuery
from gateway.permissions import Permission
from gateway.portal import csv_files
from gateway.portal.page import page
from gateway.portal.rendering import HEADERS, View, redirect
from gateway.refusals import Refusal
from gateway.services import Services
from gateway.stores.devices.owner_view import OwnedDevice
from gateway.stores.people import views
from schemas.times import EPOCH

PATH = "/devices"
COLUMNS = {
    "sn": "Serial number", "mac": "MAC", "cloud_id": "Cloud ID", "model": "Model", "space": "Space",
    "firmware": "Firmware", "seen": "Last seen", "claimed": "Claimed",
}  # fmt: skip
COLUMNS_DEFAULT = ["sn", "model", "space", "firmware", "seen"]
COLUMNS_MAX = 20
STATE = "state."
"""Before the name of a telemetry value, where that is a column."""
SILENT = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
STEADY = timedelta(minutes=10)
FILTERS = (*(name for name in DevicesQuery.__struct_fields__ if name not in ("page", "per_page")), "silent_for")
CSV_PAGE = 100


ColumnName = Annotated[str, Meta(min_length=1, max_length=200)]


class ShownQuery(DevicesQuery, kw_only=True):
    """Which devices, with which columns."""

    columns: Annotated[list[ColumnName], Meta(max_length=COLUMNS_MAX)] = field(default_factory=list)
    silent_for: Literal["hour", "day", "week", "month"] | None = None

    def asked(self, services: Services) -> "ShownQuery":
        """As the API is asked: with a time where this has a span."""
        if self.silent_for is None:
            return self
        moment = services.clock() - SILENT[self.silent_for]
        # The same for a while: the next page begins where this one ends, if it is one of the same list.
        before = moment - (moment - EPOCH) % STEADY
        return msgspec.structs.replace(self, seen_before=before.isoformat())


@page("GET", PATH, permission=Permission.READ)
async def list_devices(services: Services, request: Request, fleet: FleetScope, query: ShownQuery) -> View | Response:
    """The devices of the fleet."""
    owner = (people.signed_in(request).session.person_id, fleet.id, PATH)
    if not request.url.query:
        last = await views.last(services.postgres, *owner)
        if last:
            return redirect(services, f"{PATH}?{last}")
    try:
        found = await devices.device_page(services, fleet, query.asked(services), fleet.project_ids)
        tree = await spaces.spaces_around(services, fleet.id, query.space_id, fleet.project_ids)
    except Refusal:
        await views.delete(services.postgres, *owner, views.LAST)  # who comes back begins anew
        raise
    if request.url.query and query.page == 1:
        await views.remember(services.postgres, *owner, request.url.query)
    columns = query.columns or COLUMNS_DEFAULT
    values = {
        "devices": found,
        "shown": query,
        "columns": columns,
        "headings": ["Device", "Status", *(COLUMNS.get(one, one.removeprefix(STATE)) for one in columns)],
        "titles": COLUMNS,
        "state_keys": _state_keys(found.items),
        "narrowed": any(getattr(query, name) for name in FILTERS),
        "total": await _total(services, fleet, query, found),
        "tree": tree,
        "saved": await views.saved(services.postgres, *owner),
    }
    return View("devices.html", values)


async def _total(services: Services, fleet: FleetScope, query: ShownQuery, found: Page[OwnedDevice]) -> str:
    """How many there are, as far as that is known."""
    here = len(found.items)
    if query.page == 1 and not found.has_next_page:
        return f"{here} device{'' if here == 1 else 's'}"
    shown = f"{here} devices on page {query.page}"
    narrowing = [name for name in FILTERS if getattr(query, name)]
    if narrowing == ["space_id"] and query.space_id is not None:
        known = (await fleets.devices_below(services, fleet.id, [query.space_id])).get(query.space_id)
    elif narrowing in ([], ["status"]):
        counts = await fleets.counts_of(services, fleet.id, fleet.project_ids, wait=False)
        counted = counts.total if query.status is None else counts.by_status.get(query.status, 0)
        known = None if counts.counted_at is None else counted
    else:
        fitting = await devices.tally(services, fleet, query.asked(services), fleet.project_ids)
        bound = "" if fitting.is_whole else "at least "
        return shown if fitting.number is None else f"{shown}, of {bound}{fitting.number:,}"
    return shown if known is None else f"{shown}, of about {known:,}"


@page("GET", "/devices.csv", permission=Permission.READ)
async def export(services: Services, fleet: FleetScope, query: ShownQuery) -> Response:
    """All devices that fit, as a file."""
    asked = msgspec.structs.replace(query.asked(services), page=1, per_page=CSV_PAGE)
    # What is refused is a page still, and no file that is cut off.
    first = await devices.device_page(services, fleet, asked, fleet.project_ids)
    headers = {**HEADERS, "content-disposition": 'attachment; filename="devices.csv"'}
    lines = _lines(services, fleet, asked, first)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(
    services: Services, fleet: FleetScope, asked: ShownQuery, found: Page[OwnedDevice]
) -> AsyncIterator[str]:
    keys = [one.removeprefix(STATE) for one in asked.columns if one.startswith(STATE)]
    yield csv_files.line(["id", "name", "serial_number", "mac", "cloud_id", "status", "last_seen_at", "model", "space",
                 "firmware", *keys])  # fmt: skip
    while True:
        yield "".join(csv_files.line(_cells(device, keys)) for device in found.items)
        if found.next_page is None:
            break
        asked = msgspec.structs.replace(asked, page=found.next_page)
        found = await devices.device_page(services, fleet, asked, fleet.project_ids)


def _cells(device: OwnedDevice, keys: list[str]) -> list[Any]:
    seen = device.last_seen_at.isoformat() if device.last_seen_at else ""
    space = device.space.full_path if device.space else ""
    fixed = [device.id, device.name, device.sn, device.mac, device.cloud_id, device.effective_status, seen]
    return [*fixed, device.model.name, space, device.firmware.version, *(device.state.get(key) for key in keys)]


def _state_keys(shown: list[OwnedDevice]) -> list[str]:
    """Values that devices of this page have: those that can be columns."""
    return sorted({key for device in shown for key in device.state})[:100]


class ViewName(msgspec.Struct):
    """What a view is called, and the query that it is."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    query: Annotated[str, Meta(max_length=views.QUERY_CHARACTERS_MAX)]


@page("POST", "/devices/views", permission=Permission.READ)
async def save_view(services: Services, request: Request, fleet: FleetScope, body: ViewName) -> Response:
    """Keep what is shown under a name."""
    person_id = people.signed_in(request).session.person_id
    await views.save(services.postgres, person_id, fleet.id, PATH, body.name, body.query)
    return redirect(services, f"{PATH}?{body.query}", said=f"The view “{body.name}” is saved")


class OneView(msgspec.Struct):
    """A view by its name; the last one has none."""

    name: Annotated[str, Meta(max_length=60)] = ""


@page("POST", "/devices/views/delete", permission=Permission.READ)
async def delete_view(services: Services, request: Request, fleet: FleetScope, body: OneView) -> Response:
    """Forget a saved view, or what was looked at last."""
    person_id = people.signed_in(request).session.person_id
    await views.delete(services.postgres, person_id, fleet.id, PATH, body.name)
    return redirect(services, PATH)


PAGES = (export, list_devices, save_view, delete_view)
