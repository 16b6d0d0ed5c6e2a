"""Organizations and projects as the accounts that have a role in them see them."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from msgspec import Struct

from schemas.postgres import Executor


class VisibleProject(Struct):
    """A project, with whose it is and how many devices it has."""

    id: UUID
    name: str
    organization_id: UUID
    organization_name: str
    devices: int
    latitude: float | None
    longitude: float | None
    time_zone: str
    labels: dict[str, str]


_PROJECT = """
    SELECT p.id, p.name, p.organization_id, o.name AS organization_name, p.latitude, p.longitude, p.time_zone, p.labels,
           (SELECT count(*) FROM devices d WHERE d.project_id = p.id AND d.deleted_at IS NULL) AS devices
      FROM projects p JOIN organizations o ON o.id = p.organization_id
"""


async def organizations(connection: Executor, organization_ids: Collection[UUID]) -> list[tuple[UUID, str]]:
    """Id and name of each, by name."""
    rows = await connection.fetch(
        "SELECT id, name FROM organizations WHERE id = ANY($1::uuid[]) ORDER BY name, id", list(organization_ids)
    )
    return [(row["id"], row["name"]) for row in rows]


async def read(connection: Executor, project_id: UUID) -> VisibleProject | None:
    """One project."""
    row: Any = await connection.fetchrow(f"{_PROJECT} WHERE p.id = $1", project_id)
    return None if row is None else VisibleProject(**row)


async def listed(
    connection: Executor,
    *,
    whole: Collection[UUID],
    single: Collection[UUID],
    organization: str,
    part: str,
    after: str,
    limit: int,
) -> list[VisibleProject]:
    """Projects behind `after`, by id: of whole organizations and single ones; narrowed by organization and name."""
    rows = await connection.fetch(
        f"""{_PROJECT} WHERE (p.organization_id = ANY($1::uuid[]) OR p.id = ANY($2::uuid[]))
              AND ($3 = '' OR p.organization_id::text = $3) AND ($4 = '' OR strpos(lower(p.name), lower($4)) > 0)
              AND p.id::text > $5 ORDER BY p.id::text LIMIT $6""",
        list(whole),
        list(single),
        organization,
        part,
        after,
        limit,
    )
    return [VisibleProject(**row) for row in rows]
