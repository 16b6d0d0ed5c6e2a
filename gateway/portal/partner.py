"""What an organization makes, at a glance, and what owners of its devices see wrong with them: for a vendor's people.

What is counted and listed leads to its own pages, which owners have as well (`gateway.portal.sides`).
"""

from msgspec import Struct

from gateway.api.paging import PageQuery
from gateway.api.scopes import VendorScope
from gateway.organization import incidents, licenses, rollouts, tickets
from gateway.organization.incidents import IncidentsQuery
from gateway.organization.licenses import LicensesQuery
from gateway.organization.rollouts import RolloutsQuery
from gateway.partner import info
from gateway.permissions import Permission
from gateway.portal.overview import INCIDENTS_SINCE, NEWEST
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services

PATH = "/partner"


class OverviewQuery(Struct, kw_only=True):
    """`counted` waits until devices are counted, which a whole page must not."""

    counted: bool = False

    def is_long(self) -> bool:
        """All devices of its models are counted."""
        return self.counted


@page("GET", PATH, permission=Permission.READ)
async def overview(services: Services, partner: VendorScope, query: OverviewQuery) -> View:
    """How the vendor's devices are, and who waits for it; or what there is to count."""
    if query.counted:
        return View("partner_counts.html", {"info": await info.read_partner_info(services, partner)})
    since = (services.clock() - INCIDENTS_SINCE).isoformat()
    newest = IncidentsQuery(since=since, status="active", per_page=NEWEST)
    under_way = [RolloutsQuery(status=status, per_page=NEWEST) for status in ("running", "paused")]
    values = {
        "info": None,
        "incidents": await incidents.list_incidents(services, partner, newest),
        "tickets": await tickets.list_tickets(services, partner, PageQuery(per_page=NEWEST)),
        "failed": await licenses.list_licenses(services, partner, LicensesQuery(state="error", per_page=NEWEST)),
        "rollouts": [
            one for query in under_way for one in (await rollouts.list_rollouts(services, partner, query)).items
        ],
    }
    return View("partner.html", values)


PAGES = (overview,)
