"""Passkeys of people: the public halves of keys that their devices hold, each with what its owner calls it."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway.refusals import Conflict, NotFound
from schemas import ids
from schemas.postgres import Connection, Executor

PASSKEYS_MAX = 20
"""Of one person."""
UNKNOWN = "There is no such passkey"
TAKEN = "This passkey is registered already"
TOO_MANY = f"At most {PASSKEYS_MAX} passkeys can be kept: remove one first"


class Passkey(Struct):
    """A passkey as its person sees it."""

    id: UUID
    credential_id: bytes
    name: str
    created_at: datetime
    used_at: datetime | None


class KeptKey(Struct, frozen=True):
    """What an answer is checked with."""

    id: UUID
    person_id: UUID
    public_key: bytes
    sign_count: int


async def listed(connection: Executor, person_id: UUID) -> list[Passkey]:
    """A person's passkeys, the first one first."""
    rows = await connection.fetch(
        """SELECT id, credential_id, name, created_at, used_at FROM passkeys
            WHERE person_id = $1 ORDER BY created_at, id LIMIT $2""",
        person_id,
        PASSKEYS_MAX,
    )
    return [Passkey(**row) for row in rows]


async def add(
    connection: Connection,
    person_id: UUID,
    name: str,
    credential_id: bytes,
    public_key: bytes,
    sign_count: int,
    now: datetime,
) -> None:
    """Keep one. Raises Conflict when there are too many, or somebody has it already."""
    # Two that are added at once are counted one after the other.
    await connection.execute("SELECT FROM people WHERE id = $1 FOR NO KEY UPDATE", person_id)
    if await connection.fetchval("SELECT count(*) FROM passkeys WHERE person_id = $1", person_id) >= PASSKEYS_MAX:
        raise Conflict(TOO_MANY)
    added = await connection.fetchval(
        """INSERT INTO passkeys (id, person_id, credential_id, public_key, sign_count, name, created_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (credential_id) DO NOTHING RETURNING true""",
        ids.new_id(),
        person_id,
        credential_id,
        public_key,
        sign_count,
        name,
        now,
    )
    if not added:
        raise Conflict(TAKEN)


async def of_credential(connection: Executor, credential_id: bytes) -> KeptKey | None:
    """What is kept of the passkey that calls itself so."""
    row = await connection.fetchrow(
        "SELECT id, person_id, public_key, sign_count FROM passkeys WHERE credential_id = $1", credential_id
    )
    return None if row is None else KeptKey(**row)


async def use(connection: Connection, passkey_id: UUID, sign_count: int, now: datetime) -> bool:
    """Note that one was used; False when it is gone, or was used meanwhile with this count or a higher one."""
    used: bool | None = await connection.fetchval(
        """UPDATE passkeys SET sign_count = $2, used_at = $3
            WHERE id = $1 AND (sign_count < $2 OR (sign_count = 0 AND $2 = 0)) RETURNING true""",
        passkey_id,
        sign_count,
        now,
    )
    return bool(used)


async def remove(connection: Executor, person_id: UUID, passkey_id: UUID) -> None:
    """Forget one of a person's. Raises NotFound."""
    removed = await connection.fetchval(
        "DELETE FROM passkeys WHERE person_id = $1 AND id = $2 RETURNING true", person_id, passkey_id
    )
    if not removed:
        raise NotFound(UNKNOWN)
