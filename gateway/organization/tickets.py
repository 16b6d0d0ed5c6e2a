"""Tickets of the owner about its devices, which the makers of their models see as well."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import FleetScope, OrganizationScope, Scope
from gateway.api.validation import TEXT_CHARACTERS_MAX, Label, Name, Text
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.incidents import tickets
from gateway.stores.incidents.incidents import Side
from gateway.stores.incidents.tickets import Party, Ticket, TicketWithComments

TICKETS = "/core/v1/organization/tickets"
UNKNOWN = {404: "Ticket not found."}
CLOSED = UNKNOWN | {409: "It is resolved."}


class NewTicket(Struct, kw_only=True):
    """A ticket from an incident, which lends it title and description where none are given, or about a device."""

    incident_id: UUID | None = None
    device_id: UUID | None = None
    title: Label | None = None
    description: Text | None = None


class TicketTexts(Struct):
    """What a ticket is about from now on."""

    title: Annotated[Name, Meta(examples=["Pump leaks"])]
    description: Text


class TicketMessage(Struct):
    """What there is to say."""

    message: Annotated[str, Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX, examples=["Replacement is on its way"])]


@endpoint("GET", TICKETS, caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_tickets(services: Services, fleet: FleetScope, query: PageQuery) -> Page[Ticket]:
    """List open tickets, newest first."""
    return await ticket_page(services, fleet, "organization_id", query, fleet.project_ids)


@endpoint(
    "POST",
    TICKETS,
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Incident or device not found.", 409: "The incident has an open ticket."},
)
async def create_ticket(services: Services, organization: OrganizationScope, body: NewTicket) -> TicketWithComments:
    """Make a ticket, from an incident or about a device; the maker of the device's model sees it."""
    async with change(services) as changed:
        return await tickets.create(
            changed,
            party(organization, "organization_id"),
            device_id=body.device_id,
            incident_id=body.incident_id,
            title=body.title,
            description=body.description,
        )


@endpoint("GET", f"{TICKETS}/{{ticket_id}}", caller=ORGANIZATION_KEY, permission=Permission.READ, errors=UNKNOWN)
async def read_ticket(services: Services, organization: OrganizationScope, ticket_id: UUID) -> TicketWithComments:
    """Read one ticket with its comments."""
    return await tickets.read(services.postgres, "organization_id", organization.id, ticket_id)


@endpoint("PUT", f"{TICKETS}/{{ticket_id}}", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=CLOSED)
async def put_ticket(
    services: Services, organization: OrganizationScope, ticket_id: UUID, body: TicketTexts
) -> TicketWithComments:
    """Give a ticket another title and description."""
    by = party(organization, "organization_id")
    async with change(services) as changed:
        return await tickets.rewrite(changed, by, ticket_id, body.title, body.description)


@endpoint(
    "POST", f"{TICKETS}/{{ticket_id}}/resolved", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=UNKNOWN
)
async def resolve_ticket(services: Services, organization: OrganizationScope, ticket_id: UUID) -> TicketWithComments:
    """Say that a ticket is resolved."""
    async with change(services) as changed:
        return await tickets.resolve(changed, party(organization, "organization_id"), ticket_id)


@endpoint(
    "POST", f"{TICKETS}/{{ticket_id}}/message", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=CLOSED
)
async def comment_on_ticket(
    services: Services, organization: OrganizationScope, ticket_id: UUID, body: TicketMessage
) -> TicketWithComments:
    """Say something about a ticket."""
    async with change(services) as changed:
        return await tickets.say(changed, party(organization, "organization_id"), ticket_id, body.message)


def party(scope: Scope, side: Side) -> Party:
    """Who acts on a ticket, by the scope of the call."""
    return Party(side, scope.id, f"{'owner' if side == 'organization_id' else 'partner'} {scope.principal.id}")


async def ticket_page(
    services: Services, scope: Scope, side: Side, query: PageQuery, project_ids: Sequence[UUID] | None = None
) -> Page[Ticket]:
    """A page of the open tickets of an organization, as owner or as vendor; where given, of these projects."""

    async def read(window: Window) -> list[Ticket]:
        before = None if window.after is None else UUID(str(window.after[0]))
        return await tickets.page(
            services.postgres,
            side,
            scope.id,
            project_ids=project_ids,
            before=before,
            offset=window.offset,
            limit=window.limit,
        )

    return await paging.read_page(
        services,
        ("tickets", side, scope.id, project_ids),
        query.page,
        query.per_page,
        read,
        boundary=lambda ticket: [str(ticket.id)],
    )


ENDPOINTS = (list_tickets, create_ticket, read_ticket, put_ticket, resolve_ticket, comment_on_ticket)
