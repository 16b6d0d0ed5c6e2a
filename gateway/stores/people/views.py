"""Views of lists that people keep: those with a name, and for each list the one that was looked at last."""

from uuid import UUID

from msgspec import Struct

from gateway.refusals import DoesNotFit
from schemas.postgres import Executor

QUERY_CHARACTERS_MAX = 4_000
SAVED_MAX = 50
TOO_MANY = f"At most {SAVED_MAX} views of a list can be saved: delete one first"
LAST = ""


class SavedView(Struct):
    """A view: the query of the list's address."""

    name: str
    query: str


async def last(connection: Executor, person_id: UUID, organization_id: UUID, page: str) -> str:
    """What a person looked at last of a list; "" where that was nothing in particular."""
    found: str | None = await connection.fetchval(
        "SELECT query FROM saved_views WHERE person_id = $1 AND organization_id = $2 AND page = $3 AND name = ''",
        person_id,
        organization_id,
        page,
    )
    return found or ""


async def remember(connection: Executor, person_id: UUID, organization_id: UUID, page: str, query: str) -> None:
    """Note what a person looks at; what is too long to be kept is not."""
    if len(query) <= QUERY_CHARACTERS_MAX:
        await _store(connection, person_id, organization_id, page, LAST, query)


async def save(connection: Executor, person_id: UUID, organization_id: UUID, page: str, name: str, query: str) -> None:
    """Keep a view under a name, in place of one that has it. Raises DoesNotFit when there are too many."""
    others = await saved(connection, person_id, organization_id, page)
    if len(others) >= SAVED_MAX and name not in {one.name for one in others}:
        raise DoesNotFit(TOO_MANY)
    await _store(connection, person_id, organization_id, page, name, query)


async def saved(connection: Executor, person_id: UUID, organization_id: UUID, page: str) -> list[SavedView]:
    """A person's views of a list, by name."""
    rows = await connection.fetch(
        """SELECT name, query FROM saved_views
            WHERE person_id = $1 AND organization_id = $2 AND page = $3 AND name <> '' ORDER BY name""",
        person_id,
        organization_id,
        page,
    )
    return [SavedView(**row) for row in rows]


async def delete(connection: Executor, person_id: UUID, organization_id: UUID, page: str, name: str) -> None:
    """Forget a view; one that is not there is forgotten already."""
    await connection.execute(
        "DELETE FROM saved_views WHERE person_id = $1 AND organization_id = $2 AND page = $3 AND name = $4",
        person_id,
        organization_id,
        page,
        name,
    )


async def _store(
    connection: Executor, person_id: UUID, organization_id: UUID, page: str, name: str, query: str
) -> None:
    await connection.execute(
        """INSERT INTO saved_views (person_id, organization_id, page, name, query) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (person_id, organization_id, page, name) DO UPDATE SET query = excluded.query
            WHERE saved_views.query <> excluded.query""",
        person_id,
        organization_id,
        page,
        name,
        query,
    )
