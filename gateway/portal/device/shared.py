"""What the pages of a device have in common: its name and status above, and the ways to its other pages."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from gateway.api.scopes import FleetScope, OrganizationScope, ProjectScope
from gateway.organization import devices
from gateway.portal.rendering import View, prefix_of, url
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.devices import locking

PATH = "/devices/{device_id}"
TABS = (
    ("", "Status"),
    ("history", "History"),
    ("events", "Events"),
    ("commands", "Commands"),
    ("config", "Config"),
    ("incidents", "Incidents"),
    ("files", "Files"),
    ("audit", "Audit"),
    ("settings", "Settings"),
)
"""The pages of a device: last segment of the address, and title."""


async def project_of(services: Services, fleet: FleetScope, device_id: UUID) -> ProjectScope:
    """The project that a device of the fleet is in. Raises NotFound."""
    device = await devices.read_device(services, await fleet.over(services, device_id), device_id)
    if device.project_id is None:
        raise NotFound(locking.UNKNOWN)
    return ProjectScope(device.project_id, fleet.principal, fleet.id)


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
