"""People: one account for each address, whatever organizations they are members of."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway.refusals import Conflict, NotFound
from gateway.stores.accounts.members import check_address
from schemas import ids
from schemas.postgres import Connection, Executor

UNKNOWN = "There is no such person"
TAKEN = "There is an account for this address already"

_PERSON = "id, email, name, password IS NOT NULL AS has_password, created_at"


class Person(Struct):
    """Who signs in."""

    id: UUID
    email: str
    name: str
    has_password: bool
    created_at: datetime


async def find_or_create(connection: Connection, email: str) -> Person:
    """The person of this address, in any case of its letters. Raises DoesNotFit."""
    check_address(email)
    await connection.execute(
        "INSERT INTO people (id, email) VALUES ($1, $2) ON CONFLICT (lower(email)) DO NOTHING", ids.new_id(), email
    )
    found = await by_email(connection, email)
    assert found is not None
    return found


async def create(connection: Connection, email: str, name: str, password: str) -> UUID:
    """A new person with a password's digest. Raises Conflict when another one has the address."""
    check_address(email)
    created: UUID | None = await connection.fetchval(
        """INSERT INTO people (id, email, name, password) VALUES ($1, $2, $3, $4)
           ON CONFLICT (lower(email)) DO NOTHING RETURNING id""",
        ids.new_id(),
        email,
        name,
        password,
    )
    if created is None:
        raise Conflict(TAKEN)
    return created


async def rename(connection: Executor, person_id: UUID, name: str) -> None:
    """Another name."""
    await connection.execute("UPDATE people SET name = $2 WHERE id = $1", person_id, name)


async def set_password(connection: Executor, person_id: UUID, digest: str) -> None:
    """Another password, by its digest."""
    await connection.execute("UPDATE people SET password = $2 WHERE id = $1", person_id, digest)


class KeptPassword(Struct):
    """The digest of a person's password; None where it has none."""

    id: UUID
    password: str | None


async def password_of(connection: Executor, email: str) -> KeptPassword | None:
    """What is kept of the password of this address."""
    row = await connection.fetchrow("SELECT id, password FROM people WHERE lower(email) = lower($1)", email)
    return None if row is None else KeptPassword(**row)


async def by_email(connection: Executor, email: str) -> Person | None:
    """The person of this address."""
    row = await connection.fetchrow(f"SELECT {_PERSON} FROM people WHERE lower(email) = lower($1)", email)
    return None if row is None else Person(**row)


async def read(connection: Executor, person_id: UUID) -> Person:
    """Raises NotFound."""
    row = await connection.fetchrow(f"SELECT {_PERSON} FROM people WHERE id = $1", person_id)
    if row is None:
        raise NotFound(UNKNOWN)
    return Person(**row)


async def organizations_of(connection: Executor, person_id: UUID) -> list[UUID]:
    """The organizations in which a person has a role."""
    rows = await connection.fetch(
        "SELECT DISTINCT organization_id FROM memberships WHERE person_id = $1 ORDER BY 1", person_id
    )
    return [row["organization_id"] for row in rows]


async def listed(connection: Executor, organization_id: UUID, limit: int) -> list[Person]:
    """Who is a member of an organization, by address."""
    rows = await connection.fetch(
        f"""SELECT {_PERSON} FROM people p
             WHERE EXISTS (SELECT FROM memberships m WHERE m.person_id = p.id AND m.organization_id = $1)
             ORDER BY lower(email) LIMIT $2""",
        organization_id,
        limit,
    )
    return [Person(**row) for row in rows]
