"""Tickets that owners made about devices of the partner's models."""

from uuid import UUID

from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.scopes import VendorScope
from gateway.organization.tickets import CLOSED, UNKNOWN, TicketMessage, TicketTexts, party, ticket_page
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.incidents import tickets
from gateway.stores.incidents.tickets import Ticket, TicketWithComments

TICKETS = "/core/v1/partner/tickets"


@endpoint("GET", TICKETS, caller=PARTNER_KEY, permission=Permission.READ)
async def list_tickets(services: Services, partner: VendorScope, query: PageQuery) -> Page[Ticket]:
    """List open tickets, newest first."""
    return await ticket_page(services, partner, "vendor_id", query)


@endpoint("GET", f"{TICKETS}/{{ticket_id}}", caller=PARTNER_KEY, permission=Permission.READ, errors=UNKNOWN)
async def read_ticket(services: Services, partner: VendorScope, ticket_id: UUID) -> TicketWithComments:
    """Read one ticket with its comments."""
    return await tickets.read(services.postgres, "vendor_id", partner.id, ticket_id)


@endpoint("PUT", f"{TICKETS}/{{ticket_id}}", caller=PARTNER_KEY, permission=Permission.DEVELOP, errors=CLOSED)
async def put_ticket(
    services: Services, partner: VendorScope, ticket_id: UUID, body: TicketTexts
) -> TicketWithComments:
    """Give a ticket another title and description."""
    async with change(services) as changed:
        return await tickets.rewrite(changed, party(partner, "vendor_id"), ticket_id, body.title, body.description)


@endpoint(
    "POST", f"{TICKETS}/{{ticket_id}}/resolved", caller=PARTNER_KEY, permission=Permission.DEVELOP, errors=UNKNOWN
)
async def resolve_ticket(services: Services, partner: VendorScope, ticket_id: UUID) -> TicketWithComments:
    """Say that a ticket is resolved."""
    async with change(services) as changed:
        return await tickets.resolve(changed, party(partner, "vendor_id"), ticket_id)


@endpoint("POST", f"{TICKETS}/{{ticket_id}}/message", caller=PARTNER_KEY, permission=Permission.DEVELOP, errors=CLOSED)
async def comment_on_ticket(
    services: Services, partner: VendorScope, ticket_id: UUID, body: TicketMessage
) -> TicketWithComments:
    """Say something about a ticket."""
    async with change(services) as changed:
        return await tickets.say(changed, party(partner, "vendor_id"), ticket_id, body.message)


ENDPOINTS = (list_tickets, read_ticket, put_ticket, resolve_ticket, comment_on_ticket)
