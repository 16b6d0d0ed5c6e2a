"""Tickets: what the owner of a device asks the maker of its model, and what the two say to each other.

One is made from an incident or about a device, belongs to the owner and the vendor that the device had then, and is
open until either says that it is resolved. What is done to it stands between the comments.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import Conflict, DoesNotFit, NotFound
from gateway.stores.change import Change
from gateway.stores.devices import locking
from gateway.stores.incidents import incidents
from gateway.stores.whose import Whose
from schemas import ids
from schemas.bounds import PAGE_BYTES_MAX
from schemas.postgres import Connection, Executor

UNKNOWN = "Ticket not found"
RESOLVED = "Ticket is resolved"
HAS_ONE = "There is an open ticket about this incident"
COMMENTS_MAX = 1_000
COMMENTS_BYTES_MAX = PAGE_BYTES_MAX
"""A ticket is read with all of its comments."""
FULL = "The ticket is full: resolve it and make another one"

_TICKET = """t.id, t.device_id, t.incident_id, t.title, t.description, t.created_at, t.resolved_at,
             t.resolved_at IS NOT NULL AS resolved"""


class Comment(Struct):
    """What somebody said, or, by the system, what was done. `user` tells by which key, of the owner or the partner."""

    id: UUID
    text: str
    created_at: datetime
    system: bool
    user: str


class Ticket(Struct):
    """One ticket."""

    id: UUID
    device_id: UUID
    incident_id: UUID | None
    title: str
    description: str
    created_at: datetime
    resolved_at: datetime | None
    resolved: bool


class TicketWithComments(Ticket):
    """One ticket and all that was said, oldest first."""

    comments: list[Comment]


class Party(NamedTuple):
    """Who acts on a ticket: the owner's side or the vendor's, and by which key."""

    whose: Whose
    user: str


def _column(whose: Whose) -> str:
    """Where tickets say which organization is on this side."""
    return "vendor_id" if whose.as_vendor else "organization_id"


async def page(
    connection: Executor,
    whose: Whose,
    *,
    project_ids: Sequence[UUID] | None = None,
    before: UUID | None,
    offset: int,
    limit: int,
) -> list[Ticket]:
    """The open tickets of an organization, newest first, from behind `before` on; or those about devices in these
    projects.
    """
    rows = await connection.fetch(
        f"""SELECT {_TICKET} FROM tickets t JOIN devices d ON d.id = t.device_id
             WHERE t.{_column(whose)} = $1 AND t.resolved_at IS NULL AND ($2::uuid IS NULL OR t.id < $2)
               AND ($5::uuid[] IS NULL OR d.project_id = ANY($5))
             ORDER BY t.id DESC OFFSET $3 LIMIT $4""",
        whose.organization_id,
        before,
        offset,
        limit,
        project_ids,
    )
    return [Ticket(**row) for row in rows]


async def read(connection: Executor, whose: Whose, ticket_id: UUID) -> TicketWithComments:
    """Raises NotFound for an unknown ticket and for another tenant's alike."""
    row = await connection.fetchrow(
        f"SELECT {_TICKET} FROM tickets t WHERE t.id = $1 AND t.{_column(whose)} = $2", ticket_id, whose.organization_id
    )
    if row is None:
        raise NotFound(UNKNOWN)
    comments = await connection.fetch(
        """SELECT id, text, created_at, system, author AS "user" FROM ticket_comments
            WHERE ticket_id = $1 ORDER BY id LIMIT $2""",
        ticket_id,
        COMMENTS_MAX + 1,
    )
    return TicketWithComments(**row, comments=[Comment(**comment) for comment in comments])


async def project_of(connection: Executor, organization_id: UUID, ticket_id: UUID) -> UUID | None:
    """The project that the device of an owner's ticket is in. Raises NotFound."""
    row = await connection.fetchrow(
        """SELECT d.project_id FROM tickets t JOIN devices d ON d.id = t.device_id
            WHERE t.id = $2 AND t.organization_id = $1""",
        organization_id,
        ticket_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    project_id: UUID | None = row["project_id"]
    return project_id


async def create(
    change: Change,
    by: Party,
    *,
    device_id: UUID | None,
    incident_id: UUID | None,
    title: str | None,
    description: str | None,
) -> TicketWithComments:
    """Make a ticket from an incident, which lends it what is not given, or about a device of the owner's.

    Raises NotFound for either, Conflict when the incident has an open ticket, DoesNotFit without a title.
    """
    connection = change.connection
    if incident_id is not None:
        incident = await incidents.read(connection, by.whose, incident_id)
        if device_id not in (None, incident.device_id):
            raise DoesNotFit("Device id: the incident is of another device")
        device_id, title = incident.device_id, title or incident.title
        description = incident.description if description is None else description
    if device_id is None:
        raise DoesNotFit("Give incident id or device id")
    if not title:
        raise DoesNotFit("Title can't be blank")
    await locking.lock(connection, by.whose.organization_id, device_id)
    ticket_id = ids.new_id()
    try:
        await connection.execute(
            """INSERT INTO tickets (id, organization_id, vendor_id, device_id, incident_id, title, description,
                                    created_at)
               SELECT $1, $2, m.organization_id, d.id, $4, $5, $6, $7
                 FROM devices d JOIN device_models m ON m.id = d.model_id WHERE d.id = $3""",
            ticket_id,
            by.whose.organization_id,
            device_id,
            incident_id,
            title,
            description or "",
            change.moment,
        )
    except asyncpg.UniqueViolationError:
        raise Conflict(HAS_ONE) from None
    await _comment(change, by, ticket_id, "Made from an incident" if incident_id else "Made", system=True)
    return await read(connection, by.whose, ticket_id)


async def rewrite(change: Change, by: Party, ticket_id: UUID, title: str, description: str) -> TicketWithComments:
    """Give an open ticket another title and description.

    Raises NotFound, Conflict when it is resolved, DoesNotFit when it is full.
    """
    row = await _lock_open(change.connection, by, ticket_id)
    if (row["title"], row["description"]) != (title, description):
        await _check_room(change.connection, ticket_id, row["title"])
        await change.connection.execute(
            "UPDATE tickets SET title = $2, description = $3 WHERE id = $1", ticket_id, title, description
        )
        renamed = "" if row["title"] == title else f", was titled “{row['title']}”"
        await _comment(change, by, ticket_id, f"Rewritten{renamed}", system=True)
    return await read(change.connection, by.whose, ticket_id)


async def resolve(change: Change, by: Party, ticket_id: UUID) -> TicketWithComments:
    """Say that a ticket is resolved; one that is so already stays as it is. Raises NotFound."""
    row = await _lock(change.connection, by, ticket_id)
    if row["resolved_at"] is None:
        await change.connection.execute("UPDATE tickets SET resolved_at = $2 WHERE id = $1", ticket_id, change.moment)
        await _comment(change, by, ticket_id, "Resolved", system=True)
    return await read(change.connection, by.whose, ticket_id)


async def say(change: Change, by: Party, ticket_id: UUID, message: str) -> TicketWithComments:
    """Say something about an open ticket. Raises NotFound, Conflict when it is resolved, DoesNotFit when it is full."""
    await _lock_open(change.connection, by, ticket_id)
    await _check_room(change.connection, ticket_id, message)
    await _comment(change, by, ticket_id, message, system=False)
    return await read(change.connection, by.whose, ticket_id)


async def _lock(connection: Connection, by: Party, ticket_id: UUID) -> Any:
    row = await connection.fetchrow(
        f"""SELECT title, description, resolved_at FROM tickets
             WHERE id = $1 AND {_column(by.whose)} = $2 FOR NO KEY UPDATE""",
        ticket_id,
        by.whose.organization_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return row


async def _lock_open(connection: Connection, by: Party, ticket_id: UUID) -> Any:
    row = await _lock(connection, by, ticket_id)
    if row["resolved_at"] is not None:
        raise Conflict(RESOLVED)
    return row


async def _check_room(connection: Connection, ticket_id: UUID, text: str) -> None:
    row = await connection.fetchrow(
        """SELECT count(*) AS comments, coalesce(sum(octet_length(text)), 0) AS bytes
             FROM ticket_comments WHERE ticket_id = $1""",
        ticket_id,
    )
    assert row is not None
    if row["comments"] >= COMMENTS_MAX or row["bytes"] + len(text.encode()) > COMMENTS_BYTES_MAX:
        raise DoesNotFit(FULL)


async def _comment(change: Change, by: Party, ticket_id: UUID, text: str, *, system: bool) -> None:
    await change.connection.execute(
        """INSERT INTO ticket_comments (id, ticket_id, text, system, author, created_at)
           VALUES ($1, $2, $3, $4, $5, $6)""",
        ids.new_id(),
        ticket_id,
        text,
        system,
        by.user,
        change.moment,
    )
