"""Deleting projects. What is left of deleted devices does not hold one, nor does the space that it made itself."""

from uuid import UUID

import asyncpg

from gateway.refusals import DoesNotFit
from gateway.stores.accounts import service_accounts
from gateway.stores.accounts.service_accounts import Manager
from gateway.stores.tenants import projects, spaces
from schemas.postgres import Connection

_HELD_BY = {"spaces": "spaces", "devices": "devices", "cloud_connectors": "cloud connectors"}
HELD = "Project still has {}: delete or move them first"


async def delete(connection: Connection, organization_id: UUID, project_id: UUID, manager: Manager) -> None:
    """Delete a project with nothing in it, its service accounts too.

    The space of devices that nobody put anywhere was made without anybody asking for it, and goes along. Raises
    NotFound, also when it is another's, DoesNotFit for what is in it, NotPermitted when an account of it may do more
    than the manager.
    """
    async with connection.transaction():
        await projects.lock(connection, organization_id, project_id)
        await service_accounts.manage_all(connection, project_id, manager)
        holding = await connection.fetchval(
            """SELECT CASE
                   WHEN EXISTS (SELECT FROM devices WHERE project_id = $1 AND deleted_at IS NULL) THEN 'devices'
                   WHEN EXISTS (SELECT FROM cloud_connectors WHERE project_id = $1) THEN 'cloud_connectors'
                   WHEN EXISTS (SELECT FROM spaces WHERE project_id = $1 AND full_path <> $2) THEN 'spaces' END""",
            project_id,
            spaces.UNSORTED,
        )
        if holding is not None:
            raise DoesNotFit(HELD.format(_HELD_BY[holding]))
        await spaces.release_deleted_devices(connection, "project_id", project_id)
        try:
            await connection.execute("DELETE FROM spaces WHERE project_id = $1", project_id)
            await connection.execute("DELETE FROM projects WHERE id = $1", project_id)
        except (asyncpg.ForeignKeyViolationError, asyncpg.RestrictViolationError) as error:  # put there meanwhile
            raise DoesNotFit(HELD.format(_HELD_BY.get(str(error.table_name), "devices"))) from None
