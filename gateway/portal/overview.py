"""How the fleet is, at a glance; each number leads to its list."""

from gateway.api.scopes import FleetScope
from gateway.permissions import Permission
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services


@page("GET", "/overview", permission=Permission.READ)
async def overview(services: Services, fleet: FleetScope) -> View:
    """The overview."""
    return View("overview.html")


PAGES = (overview,)
