"""Reading the tree of spaces: lists, what lies above and below a space, numbers summed up the tree."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from gateway.stores.tenants.spaces import COLUMNS, Space, read
from schemas.postgres import Executor

EXAMINED_MAX = 10_000
"""Spaces that a page of a list looks at."""


class Part(NamedTuple):
    """Spaces of a list; where `up_to` is given, it was looked at up to that project and path, and may go on there."""

    spaces: list[Space]
    up_to: tuple[UUID, str] | None


async def page(
    connection: Executor,
    organization_id: UUID,
    project_id: UUID | None,
    *,
    space_id: UUID | None,
    name: str | None,
    path_part: str | None,
    parent_id: UUID | None,
    created: tuple[datetime | None, datetime | None],
    after: tuple[str, str] | None,
    offset: int,
    limit: int,
) -> Part:
    """The organization's spaces, of one project or of all, by project and full path, from behind `after` on.

    A page looks at `EXAMINED_MAX` of them at most, however few have that name or that part in their path, or were made
    from the first moment of `created` up to, not including, the second. In one snapshot, which the connection has.
    """
    arguments: list[Any] = [
        organization_id,
        project_id,
        space_id,
        None if after is None else UUID(after[0]),
        None if after is None else after[1],
        EXAMINED_MAX,
        *(() if parent_id is None else (parent_id,)),
    ]
    # Left out where no parent is given: its index serves only where it is a condition.
    looked_at = _LOOKED_AT.format(and_below="" if parent_id is None else "AND s.parent_id = $7")
    name_at, path_at, since_at, until_at, offset_at, limit_at = (f"${len(arguments) + n}" for n in range(1, 7))
    rows = await connection.fetch(
        f"""SELECT {COLUMNS} FROM ({looked_at} LIMIT $6) s
             WHERE ({name_at}::text IS NULL OR s.name = {name_at})
               AND ({path_at}::text IS NULL OR strpos(lower(s.full_path), lower({path_at})) > 0)
               AND ({since_at}::timestamptz IS NULL OR s.created_at >= {since_at})
               AND ({until_at}::timestamptz IS NULL OR s.created_at < {until_at})
             ORDER BY s.project_id, s.full_path OFFSET {offset_at} LIMIT {limit_at}""",
        *arguments,
        name,
        path_part,
        *created,
        offset,
        limit,
    )
    last = None
    if len(rows) < limit:
        last = await connection.fetchrow(f"{looked_at} OFFSET $6::bigint - 1 LIMIT 1", *arguments)
    return Part([Space(**row) for row in rows], None if last is None else (last["project_id"], last["full_path"]))


_LOOKED_AT = """
    SELECT s.* FROM spaces s JOIN projects p ON p.id = s.project_id
     WHERE p.organization_id = $1 AND ($2::uuid IS NULL OR s.project_id = $2) AND ($3::uuid IS NULL OR s.id = $3)
       AND ($4::uuid IS NULL OR (s.project_id, s.full_path) > ($4, $5::text)) {and_below}
     ORDER BY s.project_id, s.full_path
"""


async def children(
    connection: Executor,
    organization_id: UUID,
    parent_id: UUID | None,
    project_ids: Collection[UUID] | None,
    limit: int,
) -> list[Space]:
    """The spaces right below one, or at the roots of these projects, or of all, by name."""
    rows = await connection.fetch(
        f"""SELECT {COLUMNS} FROM spaces s JOIN projects p ON p.id = s.project_id
             WHERE p.organization_id = $1 AND s.parent_id IS NOT DISTINCT FROM $2
               AND ($3::uuid[] IS NULL OR s.project_id = ANY($3)) ORDER BY s.name, s.id LIMIT $4""",
        organization_id,
        parent_id,
        None if project_ids is None else list(project_ids),
        limit,
    )
    return [Space(**row) for row in rows]


async def path(connection: Executor, organization_id: UUID, space_id: UUID) -> list[Space]:
    """A space and those above it, from the root down. Raises NotFound."""
    found = [await read(connection, organization_id, space_id)]
    while found[0].parent_id is not None:
        found.insert(0, await read(connection, organization_id, found[0].parent_id))
    return found


async def summed(connection: Executor, organization_id: UUID, numbers: Mapping[UUID, int]) -> dict[UUID, int]:
    """Numbers of spaces, each with those of all spaces below it."""
    rows = await connection.fetch(
        """SELECT s.id, s.parent_id FROM spaces s JOIN projects p ON p.id = s.project_id
            WHERE p.organization_id = $1""",
        organization_id,
    )
    parents: dict[UUID, UUID | None] = {row["id"]: row["parent_id"] for row in rows}
    found: dict[UUID, int] = dict.fromkeys(parents, 0)
    for space_id, number in numbers.items():
        above: UUID | None = space_id
        while above is not None:
            found[above] = found.get(above, 0) + number
            above = parents.get(above)
    return found
