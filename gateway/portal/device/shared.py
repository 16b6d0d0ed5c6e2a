"""What the pages of a device have in common: its name and status above, and the ways to its other pages."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from gateway.api.scopes import OrganizationScope
from gateway.organization import devices
from gateway.portal.rendering import View, prefix_of, url
from gateway.services import Services

PATH = "/devices/{device_id}"
TABS = (
    ("", "Status"),
    ("history", "History"),
    ("commands", "Commands"),
    ("config", "Config"),
    ("incidents", "Incidents"),
    ("files", "Files"),
    ("audit", "Audit"),
    ("settings", "Settings"),
)
"""The pages of a device: last segment of the address, and title."""


async def shown(
    services: Services, organization: OrganizationScope, device_id: UUID, tab: str, values: Mapping[str, Any]
) -> View:
    """One page of a device."""
    device = await devices.read_device(services, organization, device_id)
    prefix = prefix_of(services)
    tabs = [
        (title, url(prefix, "/devices", device_id, *filter(None, (segment,))), segment == tab)
        for segment, title in TABS
    ]
    return View(f"device/{tab or 'status'}.html", {"device": device, "tabs": tabs, **values})
