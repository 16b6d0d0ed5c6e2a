"""Who did what to the keys of a device, and to which unit it is."""

from uuid import UUID

from gateway.api.paging import PageQuery
from gateway.api.scopes import FleetScope
from gateway.organization import replacements
from gateway.permissions import Permission
from gateway.portal.device.shared import PATH, shown
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services


@page("GET", f"{PATH}/audit", permission=Permission.READ)
async def list_audit(services: Services, fleet: FleetScope, device_id: UUID, query: PageQuery) -> View:
    """The audit of a device."""
    organization = await fleet.over(services, device_id)
    values = {"entries": await replacements.list_audit(services, organization, device_id, query)}
    return await shown(services, organization, device_id, "audit", values)


PAGES = (list_audit,)
