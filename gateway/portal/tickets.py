"""Tickets: what owner and maker of a device say to each other about it."""

from uuid import UUID

from msgspec import Struct
from starlette.responses import Response

from gateway.api.callers.api_keys import BOTH, OWNER
from gateway.api.paging import PageQuery
from gateway.api.scopes import FleetScope, SideScope
from gateway.api.validation import Name, Text
from gateway.organization import tickets
from gateway.organization.tickets import NewTicket, TicketMessage, TicketTexts
from gateway.permissions import Permission
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.portal.sides import base, shown
from gateway.services import Services

PATH = "/tickets"
ONE = f"{PATH}/{{ticket_id}}"


class TicketForm(Struct, kw_only=True):
    """A ticket about a device."""

    device_id: UUID
    title: Name
    description: Text = ""


@page("GET", PATH, doors=BOTH, permission=Permission.READ)
async def list_tickets(services: Services, side: SideScope, query: PageQuery, form: Form) -> View:
    """The open tickets."""
    values = {"form": form, "tickets": await tickets.list_tickets(services, side, query)}
    return View("tickets.html", values | shown(side, "fleet"))


@page("POST", PATH, doors=(OWNER,), permission=Permission.DEVELOP, shown_by=list_tickets)
async def create_ticket(services: Services, fleet: FleetScope, body: TicketForm) -> Response:
    """Make a ticket about a device."""
    organization = await fleet.over(services, body.device_id)
    wanted = NewTicket(device_id=body.device_id, title=body.title, description=body.description)
    ticket = await tickets.create_ticket(services, organization, wanted)
    return redirect(services, PATH, ticket.id, said="The maker of the device sees this ticket now")


@page("GET", ONE, doors=BOTH, permission=Permission.READ)
async def read_ticket(services: Services, side: SideScope, ticket_id: UUID, form: Form) -> View:
    """One ticket, with what was said."""
    whole = await side.over_ticket(services, ticket_id)
    values = {"form": form, "ticket": await tickets.read_ticket(services, whole, ticket_id)}
    return View("ticket.html", values | shown(side, "fleet"))


@page("POST", ONE, doors=BOTH, permission=Permission.DEVELOP, shown_by=read_ticket)
async def put_ticket(services: Services, side: SideScope, ticket_id: UUID, body: TicketTexts) -> Response:
    """Give it another title and description."""
    whole = await side.over_ticket(services, ticket_id)
    await tickets.put_ticket(services, whole, ticket_id, body)
    return redirect(services, base(side) + PATH, ticket_id, said="Saved")


@page("POST", f"{ONE}/message", doors=BOTH, permission=Permission.DEVELOP, shown_by=read_ticket)
async def comment(services: Services, side: SideScope, ticket_id: UUID, body: TicketMessage) -> Response:
    """Say something."""
    whole = await side.over_ticket(services, ticket_id)
    await tickets.comment_on_ticket(services, whole, ticket_id, body)
    return redirect(services, base(side) + PATH, ticket_id)


@page("POST", f"{ONE}/resolved", doors=BOTH, permission=Permission.DEVELOP)
async def resolve(services: Services, side: SideScope, ticket_id: UUID) -> Response:
    """Say that it is resolved."""
    whole = await side.over_ticket(services, ticket_id)
    await tickets.resolve_ticket(services, whole, ticket_id)
    return redirect(services, base(side) + PATH, ticket_id, said="The ticket is resolved")


PAGES = (list_tickets, create_ticket, read_ticket, put_ticket, comment, resolve)
