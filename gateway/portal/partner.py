"""What an organization makes, at a glance, and what owners of its devices see wrong with them: for a vendor's people.

/partner             counts, newest incidents and tickets, rollouts under way
/partner/incidents   what is wrong with devices of its models, whoever owns them
/partner/tickets     what owners ask, and what is answered
"""

from uuid import UUID

from msgspec import Struct
from starlette.responses import Response

from gateway.api.paging import PageQuery
from gateway.api.scopes import VendorScope
from gateway.organization.incidents import IncidentsQuery
from gateway.organization.licenses import LicensesQuery
from gateway.organization.rollouts import RolloutsQuery
from gateway.organization.tickets import TicketMessage, TicketTexts
from gateway.partner import incidents, info, licenses, rollouts, tickets
from gateway.permissions import Permission
from gateway.portal.forms import Form
from gateway.portal.incidents import ShownQuery
from gateway.portal.overview import INCIDENTS_SINCE, NEWEST
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services
from schemas.incidents import PRIORITIES

PATH = "/partner"
TICKETS = f"{PATH}/tickets"
TICKET = f"{TICKETS}/{{ticket_id}}"


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


@page("GET", f"{PATH}/incidents", permission=Permission.READ)
async def list_incidents(services: Services, partner: VendorScope, query: ShownQuery) -> View:
    """Incidents of the devices of its models."""
    found = await incidents.list_incidents(services, partner, query)
    priorities = [(name, name) for name in PRIORITIES]
    return View("partner_incidents.html", {"asked": query, "incidents": found, "priorities": priorities})


@page("GET", TICKETS, permission=Permission.READ)
async def list_tickets(services: Services, partner: VendorScope, query: PageQuery) -> View:
    """What owners ask."""
    return View("partner_tickets.html", {"tickets": await tickets.list_tickets(services, partner, query)})


@page("GET", TICKET, permission=Permission.READ)
async def read_ticket(services: Services, partner: VendorScope, ticket_id: UUID, form: Form) -> View:
    """One ticket, with what was said."""
    values = {"form": form, "ticket": await tickets.read_ticket(services, partner, ticket_id)}
    return View("ticket.html", values | {"base": TICKETS, "reach": "vendor"})


@page("POST", TICKET, permission=Permission.DEVELOP, shown_by=read_ticket)
async def put_ticket(services: Services, partner: VendorScope, ticket_id: UUID, body: TicketTexts) -> Response:
    """Give it another title and description."""
    await tickets.put_ticket(services, partner, ticket_id, body)
    return redirect(services, TICKETS, ticket_id, said="Saved")


@page("POST", f"{TICKET}/message", permission=Permission.DEVELOP, shown_by=read_ticket)
async def comment(services: Services, partner: VendorScope, ticket_id: UUID, body: TicketMessage) -> Response:
    """Say something."""
    await tickets.comment_on_ticket(services, partner, ticket_id, body)
    return redirect(services, TICKETS, ticket_id)


@page("POST", f"{TICKET}/resolved", permission=Permission.DEVELOP)
async def resolve(services: Services, partner: VendorScope, ticket_id: UUID) -> Response:
    """Say that it is resolved."""
    await tickets.resolve_ticket(services, partner, ticket_id)
    return redirect(services, TICKETS, ticket_id, said="The ticket is resolved")


PAGES = (overview, list_incidents, list_tickets, read_ticket, put_ticket, comment, resolve)
