"""What a device said: its messages, newest first, and chosen values drawn over time."""

from itertools import pairwise
from statistics import median
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, field

from gateway.api.scopes import FleetScope
from gateway.api.validation import Label
from gateway.organization import devices, histories, series
from gateway.organization.histories import HistoriesQuery
from gateway.organization.series import KEYS_MAX, SeriesQuery
from gateway.permissions import Permission
from gateway.portal.device.shared import PATH, shown
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services
from gateway.stores.events.series import Series
from gateway.stores.events.telemetry_history import HistoryItem

GAP = 5
"""Where a device was silent for so many times its usual interval, the line is broken."""


class ShownQuery(HistoriesQuery, kw_only=True):
    """Which messages of the device, and which values are drawn."""

    keys: Annotated[list[Label], Meta(max_length=KEYS_MAX)] = field(default_factory=list)
    per_page: Annotated[int, Meta(ge=1, le=100)] = 25


@page("GET", f"{PATH}/history", permission=Permission.READ)
async def history(services: Services, fleet: FleetScope, device_id: UUID, query: ShownQuery) -> View:
    """The messages of a device."""
    organization = await fleet.over(services, device_id)
    query.device_id = device_id
    found = await histories.list_histories(services, fleet, query)
    drawn: list[Series] = []
    if query.keys:
        until = query.until or str(services.clock().timestamp())
        wanted = SeriesQuery(keys=query.keys, since=query.since, until=until)
        drawn = await series.read_series(services, fleet, device_id, wanted)
    device = await devices.read_device(services, organization, device_id)
    raw: list[Any] = found.items
    values = {
        "asked": query,
        "keys": sorted(
            {name for name, value in device.state.items() if isinstance(value, int | float)} | {*query.keys}
        ),
        "charts": [(one.key, _chart(one)) for one in drawn],
        "messages": [msgspec.json.decode(one, type=HistoryItem) for one in raw],
        "found": found,
    }
    return await shown(services, organization, device_id, "history", values)


def _chart(series: Series) -> dict[str, Any]:
    """Least, mean and greatest value of each bucket; the mean alone where all buckets hold one value."""
    single = series.least == series.greatest
    lines = [("mean", "accent", series.mean)]
    if not single:
        lines = [("least", "faint", series.least), *lines, ("greatest", "faint", series.greatest)]
    breaks = _breaks(series.at)
    return {
        "unit": "",
        "free": True,
        "x": _broken([at / 1000 for at in series.at], breaks, lambda n: series.at[n - 1] / 1000 + 0.001),
        "series": [
            {"label": "value" if single else label, "tone": tone, "values": _broken(values, breaks, lambda _: None)}
            for label, tone, values in lines
        ],
    }


def _breaks(at: list[int]) -> set[int]:
    steps = [later - earlier for earlier, later in pairwise(at)]
    if not steps:
        return set()
    usual = median(steps)
    return {n for n, step in enumerate(steps, start=1) if step > GAP * usual}


def _broken(values: list[Any], breaks: set[int], between: Any) -> list[Any]:
    """The values, with what stands between them where the line is broken."""
    return [one for n, value in enumerate(values) for one in ([between(n), value] if n in breaks else [value])]


PAGES = (history,)
