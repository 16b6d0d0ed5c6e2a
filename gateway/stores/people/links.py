"""Links that work once, within seven days: invitations to a membership, and ways in for a person.

An invitation is to one membership and says nothing of who the person is: whoever has the link and no account yet makes
one, whoever has one signs in first. So nobody takes over another's account by inviting its address.
"""

import secrets
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct

from gateway.permissions import Role
from gateway.stores.people.sessions import digest_of
from schemas.postgres import Connection, Executor

LIFE = timedelta(days=7)
LINKS_MAX = 10
"""Of one membership or person at a time; older ones end."""


class Invitation(Struct):
    """What an invitation is to."""

    membership_id: str
    email: str
    role: Role
    organization_id: UUID
    organization: str
    project: str | None
    person_id: UUID | None
    """Who has the address already; None where nobody does."""


class WayIn(Struct):
    """Whom a link signs in, and whether opening it is enough."""

    person_id: UUID
    email: str
    at_once: bool


async def invite(connection: Connection, membership_id: str, now: datetime) -> str:
    """A new link to accept a membership; returns its token, which is kept nowhere here."""
    return await _made(connection, "membership_id", membership_id, now, at_once=False)


async def way_in(connection: Connection, person_id: UUID, now: datetime, *, at_once: bool = False) -> str:
    """A new link that signs a person in; returns its token likewise."""
    return await _made(connection, "person_id", person_id, now, at_once=at_once)


async def _made(connection: Connection, whose: str, owner: str | UUID, now: datetime, *, at_once: bool) -> str:
    token = secrets.token_urlsafe(32)
    await connection.execute(
        f"""DELETE FROM sign_in_links WHERE expires_at <= $2 OR digest IN (
               SELECT digest FROM sign_in_links WHERE {whose} = $1 ORDER BY expires_at DESC OFFSET $3)""",
        owner,
        now,
        LINKS_MAX - 1,
    )
    await connection.execute(
        f"INSERT INTO sign_in_links (digest, {whose}, at_once, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        digest_of(token),
        owner,
        at_once,
        now,
        now + LIFE,
    )
    return token


async def invitation(connection: Executor, token: str, now: datetime) -> Invitation | None:
    """What a link invites to; None when it is no invitation, or has ended."""
    row = await connection.fetchrow(
        """SELECT m.id AS membership_id, m.email, m.role, m.organization_id, o.name AS organization, p.name AS project,
                  known.id AS person_id
             FROM sign_in_links l JOIN memberships m ON m.id = l.membership_id
             JOIN organizations o ON o.id = m.organization_id
             LEFT JOIN projects p ON p.id = m.project_id
             LEFT JOIN people known ON lower(known.email) = lower(m.email)
            WHERE l.digest = $1 AND l.expires_at > $2 AND m.person_id IS NULL""",
        digest_of(token),
        now,
    )
    return None if row is None else Invitation(**row)


async def opened(connection: Executor, token: str, now: datetime) -> WayIn | None:
    """Whom a link signs in; None when it is no such link, or has ended."""
    row = await connection.fetchrow(
        """SELECT p.id AS person_id, p.email, l.at_once
             FROM sign_in_links l JOIN people p ON p.id = l.person_id WHERE l.digest = $1 AND l.expires_at > $2""",
        digest_of(token),
        now,
    )
    return None if row is None else WayIn(**row)


async def use(connection: Connection, token: str, now: datetime) -> bool:
    """End a link. Of two who use it at once one is told that it had ended."""
    used: bool | None = await connection.fetchval(
        "DELETE FROM sign_in_links WHERE digest = $1 AND expires_at > $2 RETURNING true", digest_of(token), now
    )
    return bool(used)
