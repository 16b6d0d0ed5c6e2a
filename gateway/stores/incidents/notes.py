"""Notes: what an owner wrote down about a device or a space. Nobody else sees them, nor does a later owner."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from gateway.stores.devices import locking
from gateway.stores.tenants import spaces
from schemas import ids
from schemas.postgres import Connection, Executor

UNKNOWN = "Note not found"
NOTES_MAX = 1_000
TOO_MANY = f"There are at most {NOTES_MAX} notes about one thing"

About = Literal["device_id", "space_id"]
_NOTE = 'id, device_id, space_id, content, author AS "user", created_at'


class Note(Struct):
    """One note, about a device or a space. `user` tells by which key it was written."""

    id: UUID
    device_id: UUID | None
    space_id: UUID | None
    content: str
    user: str
    created_at: datetime


async def page(
    connection: Executor,
    organization_id: UUID,
    about: About,
    thing_id: UUID | None,
    *,
    before: UUID | None,
    offset: int,
    limit: int,
) -> list[Note]:
    """The organization's notes about one thing, or with None about all of its kind, newest first."""
    narrowed = "" if thing_id is None else f"AND {about} = $5"
    rows = await connection.fetch(
        f"""SELECT {_NOTE} FROM notes
             WHERE organization_id = $1 AND {about} IS NOT NULL AND ($2::uuid IS NULL OR id < $2) {narrowed}
             ORDER BY id DESC OFFSET $3 LIMIT $4""",
        *(organization_id, before, offset, limit),
        *(() if thing_id is None else (thing_id,)),
    )
    return [Note(**row) for row in rows]


async def check(connection: Executor, organization_id: UUID, about: About, thing_id: UUID) -> None:
    """Raises NotFound unless the device or space is the organization's."""
    if about == "device_id":
        await locking.check_owned(connection, organization_id, thing_id)
    else:
        await spaces.read(connection, organization_id, thing_id)


async def add(
    connection: Connection, organization_id: UUID, about: About, thing_id: UUID, content: str, user: str, at: datetime
) -> Note:
    """Write something down, in a transaction. Raises NotFound, or DoesNotFit when there are too many notes."""
    await check(connection, organization_id, about, thing_id)
    count = await connection.fetchval(
        f"SELECT count(*) FROM notes WHERE {about} = $1 AND organization_id = $2", thing_id, organization_id
    )
    if count >= NOTES_MAX:
        raise DoesNotFit(TOO_MANY)
    row = await connection.fetchrow(
        f"""INSERT INTO notes (id, organization_id, {about}, content, author, created_at)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING {_NOTE}""",
        ids.new_id(),
        organization_id,
        thing_id,
        content,
        user,
        at,
    )
    assert row is not None
    return Note(**row)


async def delete(connection: Executor, organization_id: UUID, about: About, thing_id: UUID, note_id: UUID) -> None:
    """Raises NotFound for an unknown note and for another tenant's alike."""
    if not await connection.fetchval(
        f"DELETE FROM notes WHERE id = $1 AND {about} = $2 AND organization_id = $3 RETURNING true",
        note_id,
        thing_id,
        organization_id,
    ):
        raise NotFound(UNKNOWN)
