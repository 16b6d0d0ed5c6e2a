"""Projects: what an organization's spaces and devices are grouped in. Several may have the same name."""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import NotFound
from schemas import ids
from schemas.postgres import Connection, Executor

UNKNOWN = "Project not found"

_RETURNING = "RETURNING id, name, created_at"


class Project(Struct):
    """One project of an organization."""

    id: UUID
    name: str
    created_at: datetime


class Location(Struct, frozen=True):
    """Where a project is."""

    latitude: float | None = None
    longitude: float | None = None
    time_zone: str = "UTC"


async def create(
    connection: Executor,
    organization_id: UUID,
    name: str,
    location: Location | None = None,
    labels: Mapping[str, str] = {},
) -> Project:
    """A new project. Raises NotFound for the organization."""
    location = location or Location()
    try:
        row = await connection.fetchrow(
            f"""INSERT INTO projects (id, organization_id, name, latitude, longitude, time_zone, labels)
                VALUES ($1, $2, $3, $4, $5, $6, $7) {_RETURNING}""",
            ids.new_id(),
            organization_id,
            name,
            location.latitude,
            location.longitude,
            location.time_zone,
            labels,
        )
    except asyncpg.ForeignKeyViolationError:
        raise NotFound("Organization not found") from None
    assert row is not None
    return Project(**row)


async def listed(
    connection: Executor, organization_id: UUID, offset: int = 0, limit: int | None = None
) -> list[Project]:
    """The organization's projects by name."""
    rows = await connection.fetch(
        """SELECT id, name, created_at FROM projects WHERE organization_id = $1
            ORDER BY name, id OFFSET $2 LIMIT $3""",
        organization_id,
        offset,
        limit,
    )
    return [Project(**row) for row in rows]


async def read(connection: Executor, organization_id: UUID, project_id: UUID) -> Project:
    """Raises NotFound for an unknown project and for another organization's alike."""
    row = await connection.fetchrow(
        "SELECT id, name, created_at FROM projects WHERE id = $1 AND organization_id = $2", project_id, organization_id
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return Project(**row)


async def ids_of(connection: Executor, organization_id: UUID) -> list[UUID]:
    """The projects of an organization."""
    rows = await connection.fetch("SELECT id FROM projects WHERE organization_id = $1", organization_id)
    return [row["id"] for row in rows]


async def organization_of(connection: Executor, project_id: UUID) -> UUID | None:
    """The organization that a project belongs to."""
    found: UUID | None = await connection.fetchval("SELECT organization_id FROM projects WHERE id = $1", project_id)
    return found


async def rename(connection: Executor, organization_id: UUID, project_id: UUID, name: str) -> Project:
    """Raises NotFound when it is not the organization's."""
    row = await connection.fetchrow(
        f"UPDATE projects SET name = $3 WHERE id = $1 AND organization_id = $2 {_RETURNING}",
        project_id,
        organization_id,
        name,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return Project(**row)


async def place(connection: Executor, project_id: UUID, location: Location) -> None:
    """Say where a project is."""
    await connection.execute(
        "UPDATE projects SET latitude = $2, longitude = $3, time_zone = $4 WHERE id = $1",
        project_id,
        location.latitude,
        location.longitude,
        location.time_zone,
    )


async def lock_labels(connection: Connection, project_ids: Collection[UUID]) -> dict[UUID, dict[str, str]]:
    """The labels of those of these projects that there are; nobody else changes them until this transaction ends."""
    rows = await connection.fetch(
        "SELECT id, labels FROM projects WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE", list(project_ids)
    )
    return {row["id"]: row["labels"] for row in rows}


async def label(connection: Executor, project_id: UUID, labels: Mapping[str, str]) -> None:
    """Give a project these labels and no others."""
    await connection.execute("UPDATE projects SET labels = $2 WHERE id = $1", project_id, labels)


async def lock(connection: Connection, organization_id: UUID, project_id: UUID) -> None:
    """Keep others from changing the project's tree of spaces until this transaction ends. Raises NotFound."""
    found = await connection.fetchval(
        "SELECT true FROM projects WHERE id = $1 AND organization_id = $2 FOR NO KEY UPDATE",
        project_id,
        organization_id,
    )
    if not found:
        raise NotFound(UNKNOWN)
