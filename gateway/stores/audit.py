"""The audit log: every change by anybody but devices: when, who, what, on what, before and after, from where.

Secrets are masked before they come here (see `gateway.api.audit`). Who did it is an id; people, keys and accounts are
shown by what they are called now.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from schemas import ids
from schemas.postgres import Executor

Boundary = tuple[str, str]
BATCH = 500


class Entry(Struct, kw_only=True):
    """One change. `before` and `after` are there where what was changed can be read by itself."""

    id: UUID
    at: datetime
    actor: str
    actor_name: str
    action: str
    target: str
    address: str
    given: Any
    before: Any
    after: Any


class Filter(Struct, frozen=True, kw_only=True):
    """Which changes."""

    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def note(
    connection: Executor,
    *,
    at: datetime,
    organization_id: UUID | None,
    actor: str,
    action: str,
    target: str,
    address: str,
    given: Any = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Write a change down."""
    await connection.execute(
        """INSERT INTO audit_log (id, at, organization_id, actor, action, target, address, given, before, after)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
        ids.new_id(),
        at,
        organization_id,
        actor[:255],
        action[:255],
        target[:2048],
        address[:64],
        given,
        before,
        after,
    )


_ENTRY = """
    SELECT a.id, a.at, a.actor, coalesce(p.email, k.name, s.display_name, '') AS actor_name, a.action, a.target,
           a.address, a.given, a.before, a.after
      FROM audit_log a
      LEFT JOIN people p ON p.id = CASE WHEN a.actor LIKE 'person:%' THEN substr(a.actor, 8)::uuid END
      LEFT JOIN api_keys k ON k.id = CASE WHEN a.actor LIKE 'key:%' THEN substr(a.actor, 5)::uuid END
      LEFT JOIN service_accounts s ON s.id = a.actor
"""


async def page(
    connection: Executor,
    organization_id: UUID,
    wanted: Filter,
    *,
    after: tuple[datetime, UUID] | None,
    offset: int,
    limit: int,
) -> list[Entry]:
    """Changes in an organization, newest first."""
    conditions, values = ["a.organization_id = $1"], [organization_id, offset, limit]

    def where(condition: str, value: Any) -> None:
        values.append(value)
        conditions.append(condition.format(f"${len(values)}"))

    if wanted.actor is not None:
        where("a.actor = {}", wanted.actor)
    if wanted.action is not None:
        where("a.action = {}", wanted.action)
    if wanted.since is not None:
        where("a.at >= {}", wanted.since)
    if wanted.until is not None:
        where("a.at < {}", wanted.until)
    if after is not None:
        where("a.at <= {}", after[0])
        where(f"(a.at, a.id) < (${len(values)}, {{}})", after[1])
    rows = await connection.fetch(
        f"{_ENTRY} WHERE {' AND '.join(conditions)} ORDER BY a.at DESC, a.id DESC OFFSET $2 LIMIT $3", *values
    )
    return [Entry(**row) for row in rows]


async def everything(connection: Executor, organization_id: UUID, wanted: Filter) -> AsyncIterator[list[Entry]]:
    """All of them, some at a time; each part is read by itself, so nothing is held while it is sent."""
    after: tuple[datetime, UUID] | None = None
    while True:
        rows = await page(connection, organization_id, wanted, after=after, offset=0, limit=BATCH)
        if rows:
            yield rows
        if len(rows) < BATCH:
            return
        after = (rows[-1].at, rows[-1].id)
