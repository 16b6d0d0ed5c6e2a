"""Tickets of owners about their devices, which the makers of the models see and answer as well."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api import paging
from gateway.api.callers.api_keys import BOTH, OWNER
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import SideScope, WholeScope
from gateway.api.validation import TEXT_CHARACTERS_MAX, Label, Name, Text
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.incidents import tickets
from gateway.stores.incidents.tickets import Party, Ticket, TicketWithComments

PATH = "/tickets"
ONE = f"{PATH}/{{ticket_id}}"
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


@endpoint("GET", PATH, doors=BOTH, permission=Permission.READ)
async def list_tickets(services: Services, side: SideScope, query: PageQuery) -> Page[Ticket]:
    """List open tickets, newest first."""

    async def read(window: Window) -> list[Ticket]:
        before = None if window.after is None else UUID(str(window.after[0]))
        return await tickets.page(
            services.postgres,
            side.whose,
            project_ids=side.project_ids,
            before=before,
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("tickets", *side.whose, side.project_ids)
    return await paging.read_page(services, scope, query.page, query.per_page, read, lambda one: [str(one.id)])


@endpoint(
    "POST",
    PATH,
    doors=(OWNER,),
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Incident or device not found.", 409: "The incident has an open ticket."},
)
async def create_ticket(services: Services, side: WholeScope, body: NewTicket) -> TicketWithComments:
    """Make a ticket, from an incident or about a device; the maker of the device's model sees it."""
    async with change(services) as changed:
        return await tickets.create(
            changed,
            _party(side),
            device_id=body.device_id,
            incident_id=body.incident_id,
            title=body.title,
            description=body.description,
        )


@endpoint("GET", ONE, doors=BOTH, permission=Permission.READ, errors=UNKNOWN)
async def read_ticket(services: Services, side: WholeScope, ticket_id: UUID) -> TicketWithComments:
    """Read one ticket with its comments."""
    return await tickets.read(services.postgres, side.whose, ticket_id)


@endpoint("PUT", ONE, doors=BOTH, permission=Permission.DEVELOP, errors=CLOSED)
async def put_ticket(services: Services, side: WholeScope, ticket_id: UUID, body: TicketTexts) -> TicketWithComments:
    """Give a ticket another title and description."""
    async with change(services) as changed:
        return await tickets.rewrite(changed, _party(side), ticket_id, body.title, body.description)


@endpoint("POST", f"{ONE}/resolved", doors=BOTH, permission=Permission.DEVELOP, errors=UNKNOWN)
async def resolve_ticket(services: Services, side: WholeScope, ticket_id: UUID) -> TicketWithComments:
    """Say that a ticket is resolved."""
    async with change(services) as changed:
        return await tickets.resolve(changed, _party(side), ticket_id)


@endpoint("POST", f"{ONE}/message", doors=BOTH, permission=Permission.DEVELOP, errors=CLOSED)
async def comment_on_ticket(
    services: Services, side: WholeScope, ticket_id: UUID, body: TicketMessage
) -> TicketWithComments:
    """Say something about a ticket."""
    async with change(services) as changed:
        return await tickets.say(changed, _party(side), ticket_id, body.message)


def _party(side: WholeScope) -> Party:
    return Party(side.whose, f"{'partner' if side.as_vendor else 'owner'} {side.principal.id}")


ENDPOINTS = (list_tickets, create_ticket, read_ticket, put_ticket, resolve_ticket, comment_on_ticket)
