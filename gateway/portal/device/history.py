"""What a device said: its messages, newest first."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from gateway.api.scopes import FleetScope
from gateway.organization import histories
from gateway.organization.histories import HistoriesQuery
from gateway.permissions import Permission
from gateway.portal.device.shared import PATH, shown
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services
from gateway.stores.events.telemetry_history import HistoryItem


class ShownQuery(HistoriesQuery, kw_only=True):
    """Which messages of the device."""

    per_page: Annotated[int, Meta(ge=1, le=100)] = 25


@page("GET", f"{PATH}/history", permission=Permission.READ)
async def history(services: Services, fleet: FleetScope, device_id: UUID, query: ShownQuery) -> View:
    """The messages of a device."""
    organization = await fleet.over(services, device_id)
    query.device_id = device_id
    found = await histories.list_histories(services, organization, query)
    raw: list[Any] = found.items
    messages = [msgspec.json.decode(one, type=HistoryItem) for one in raw]
    values = {"asked": query, "messages": messages, "found": found}
    return await shown(services, organization, device_id, "history", values)


PAGES = (history,)
