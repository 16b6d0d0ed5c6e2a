"""Projects: what an organization's spaces and devices are grouped in."""

from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from gateway.stores.accounts import service_accounts
from gateway.stores.accounts.service_accounts import Manager
from schemas import ids
from schemas.postgres import Connection, Executor

UNKNOWN = "Project not found"
NAME_TAKEN = "Name has already been taken"
IN_USE = "Project still has devices or spaces"

_RETURNING = "RETURNING id, name, created_at"


class Project(Struct):
    """One project of an organization."""

    id: UUID
    name: str
    created_at: datetime


async def create(connection: Executor, organization_id: UUID, name: str) -> Project:
    """A new project. Raises DoesNotFit when the organization has one of that name."""
    try:
        row = await connection.fetchrow(
            f"INSERT INTO projects (id, organization_id, name) VALUES ($1, $2, $3) {_RETURNING}",
            ids.new_id(),
            organization_id,
            name,
        )
    except asyncpg.UniqueViolationError:
        raise DoesNotFit(NAME_TAKEN) from None
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
    """Raises NotFound when it is not the organization's, DoesNotFit when the name is taken."""
    try:
        row = await connection.fetchrow(
            f"UPDATE projects SET name = $3 WHERE id = $1 AND organization_id = $2 {_RETURNING}",
            project_id,
            organization_id,
            name,
        )
    except asyncpg.UniqueViolationError:
        raise DoesNotFit(NAME_TAKEN) from None
    if row is None:
        raise NotFound(UNKNOWN)
    return Project(**row)


async def lock(connection: Connection, organization_id: UUID, project_id: UUID) -> None:
    """Keep others from changing the project's tree of spaces until this transaction ends. Raises NotFound."""
    found = await connection.fetchval(
        "SELECT true FROM projects WHERE id = $1 AND organization_id = $2 FOR NO KEY UPDATE",
        project_id,
        organization_id,
    )
    if not found:
        raise NotFound(UNKNOWN)


async def delete(connection: Connection, organization_id: UUID, project_id: UUID, manager: Manager) -> None:
    """Delete an empty project, its service accounts too.

    Raises NotFound, also when it is another's, DoesNotFit while something is in it, NotPermitted when an account of it
    may do more than the manager.
    """
    async with connection.transaction():
        await lock(connection, organization_id, project_id)
        await service_accounts.manage_all(connection, project_id, manager)
        used = await connection.fetchval(
            """SELECT EXISTS (SELECT FROM spaces WHERE project_id = $1)
                   OR EXISTS (SELECT FROM devices WHERE project_id = $1 AND deleted_at IS NULL)""",
            project_id,
        )
        if used:
            raise DoesNotFit(IN_USE)
        try:
            await connection.execute("DELETE FROM projects WHERE id = $1", project_id)
        except asyncpg.ForeignKeyViolationError:
            raise DoesNotFit(IN_USE) from None
