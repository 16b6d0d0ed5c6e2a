"""Sessions of people: each is known by the digest of a random id, which only the person's browser has.

A session ends when nothing came for half a day, after a week in any case, and when it is ended. How long it lives is
decided where it is read, so that a session whose row is still there is none. Roles that the identity provider gave hold
only in sessions that it vouched for, for a week after it did.

When a role of its person changes a session gets another id with its next call (triggers mark it). Calls that were sent
with the id before, side by side with that one, are served for a moment longer.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct

from gateway.permissions import RoleIn
from gateway.refusals import NotFound
from schemas import ids
from schemas.postgres import Connection, Executor

IDLE = timedelta(hours=12)
LIFE = timedelta(days=7)
SEEN_EVERY = timedelta(minutes=1)
"""How exactly it is known when a session was last seen: a page must not cost a write each."""
OVERLAP = timedelta(minutes=1)
"""How long the id before is good."""
SESSIONS_MAX = 50
"""Of one person; the one that was seen longest ago goes."""
USER_AGENT_CHARACTERS_MAX = 255
ADDRESS_CHARACTERS_MAX = 64
UNKNOWN = "Session not found"


class LiveSession(Struct, frozen=True):
    """A session that has not ended, with whose it is and what that person may do."""

    id: UUID
    person_id: UUID
    email: str
    name: str
    organization_id: UUID | None
    """Which the person looks at: chosen, or else the first."""
    created_at: datetime
    seen_at: datetime
    vouched_at: datetime | None
    """When the identity provider said who it is; None where it did not."""
    grants: tuple[RoleIn, ...]
    renew: bool
    """Whether it must get another id, since a role of its person changed."""


class Session(Struct):
    """A session as its person sees it."""

    id: UUID
    created_at: datetime
    seen_at: datetime
    address: str
    user_agent: str


def digest_of(secret: str) -> bytes:
    """What is stored of the id in a cookie, or of a link's token: 256 random bits each, so that no salt is needed."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


async def begin(
    connection: Connection,
    person_id: UUID,
    now: datetime,
    address: str,
    user_agent: str,
    *,
    vouched_at: datetime | None = None,
) -> str:
    """A new session; returns its id, which is kept nowhere here."""
    secret = secrets.token_urlsafe(32)
    await connection.execute(
        """INSERT INTO sessions (id, digest, person_id, created_at, seen_at, address, user_agent, vouched_at)
           VALUES ($1, $2, $3, $4, $4, $5, $6, $7)""",
        ids.new_id(),
        digest_of(secret),
        person_id,
        now,
        address[:ADDRESS_CHARACTERS_MAX],
        user_agent[:USER_AGENT_CHARACTERS_MAX],
        vouched_at,
    )
    await connection.execute(
        """DELETE FROM sessions WHERE person_id = $1 AND (created_at <= $2 OR seen_at <= $3 OR id IN (
               SELECT id FROM sessions WHERE person_id = $1 ORDER BY seen_at DESC, id DESC OFFSET $4))""",
        person_id,
        now - LIFE,
        now - IDLE,
        SESSIONS_MAX,
    )
    return secret


async def living(connection: Executor, secret: str, now: datetime) -> LiveSession | None:
    """The session of this id, unless it has ended; and note that it was seen."""
    rows = await connection.fetch(
        """SELECT s.id, s.person_id, p.email, p.name, s.organization_id AS chosen, s.created_at, s.seen_at,
                  s.vouched_at, s.renew AND s.digest = $1 AS renew, m.organization_id, m.project_id, m.role
             FROM sessions s JOIN people p ON p.id = s.person_id
             LEFT JOIN memberships m ON m.person_id = s.person_id AND (NOT m.from_provider OR s.vouched_at > $2)
            WHERE (s.digest = $1 OR (s.digest_before = $1 AND s.renewed_at > $4)) AND s.created_at > $2
              AND s.seen_at > $3 ORDER BY m.created_at, m.id""",
        digest_of(secret),
        now - LIFE,
        now - IDLE,
        now - OVERLAP,
    )
    if not rows:
        return None
    first = rows[0]
    if first["seen_at"] < now - SEEN_EVERY:
        await connection.execute("UPDATE sessions SET seen_at = $2 WHERE id = $1", first["id"], now)
    grants = tuple((row["organization_id"], row["project_id"], row["role"]) for row in rows if row["role"])
    organizations = [organization_id for organization_id, _, _ in grants]
    chosen = first["chosen"] if first["chosen"] in organizations else next(iter(organizations), None)
    columns = ("id", "person_id", "email", "name", "created_at", "seen_at", "vouched_at", "renew")
    return LiveSession(**{name: first[name] for name in columns}, organization_id=chosen, grants=grants)


async def renewed(connection: Executor, session_id: UUID, now: datetime) -> str | None:
    """Another id of a session that is marked; None when a call beside this one has got it."""
    secret = secrets.token_urlsafe(32)
    done = await connection.fetchval(
        """UPDATE sessions SET digest = $2, digest_before = digest, renewed_at = $3, renew = false
            WHERE id = $1 AND renew RETURNING true""",
        session_id,
        digest_of(secret),
        now,
    )
    return secret if done else None


async def listed(connection: Executor, person_id: UUID, now: datetime) -> list[Session]:
    """A person's sessions that have not ended, the one that was seen last first."""
    rows = await connection.fetch(
        """SELECT id, created_at, seen_at, address, user_agent FROM sessions
            WHERE person_id = $1 AND created_at > $2 AND seen_at > $3 ORDER BY seen_at DESC, id DESC""",
        person_id,
        now - LIFE,
        now - IDLE,
    )
    return [Session(**row) for row in rows]


async def look_at(connection: Executor, session_id: UUID, organization_id: UUID) -> None:
    """Which organization the person looks at."""
    await connection.execute("UPDATE sessions SET organization_id = $2 WHERE id = $1", session_id, organization_id)


async def end_shown(connection: Executor, secret: str) -> UUID | None:
    """End the session of this id, if there is one; returns whose it was."""
    person_id: UUID | None = await connection.fetchval(
        "DELETE FROM sessions WHERE digest = $1 OR digest_before = $1 RETURNING person_id", digest_of(secret)
    )
    return person_id


async def end_all(connection: Executor, person_id: UUID, *, but: UUID | None = None) -> int:
    """End a person's sessions; returns how many."""
    ended = await connection.fetch(
        "DELETE FROM sessions WHERE person_id = $1 AND id IS DISTINCT FROM $2 RETURNING id", person_id, but
    )
    return len(ended)


async def end(connection: Executor, person_id: UUID, session_id: UUID) -> None:
    """End one of a person's sessions. Raises NotFound."""
    ended = await connection.fetchval(
        "DELETE FROM sessions WHERE person_id = $1 AND id = $2 RETURNING true", person_id, session_id
    )
    if not ended:
        raise NotFound(UNKNOWN)
