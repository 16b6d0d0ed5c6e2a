"""Spaces: the tree of places in a project, and how it changes; `space_tree` reads it.

`full_path` holds the names from the root down, so that a list needs no recursion; it is rewritten with the subtree
when a space is renamed or moved. Whoever changes a project's tree holds the lock of that project, so paths agree with
parents at every moment and two callers that look for the same missing path make it once.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from gateway.stores.change import Change
from gateway.stores.tenants import projects
from schemas import bounds, ids
from schemas.postgres import Connection, Executor

UNSORTED = "Unsorted"
"""The space of devices that nobody put anywhere."""
UNKNOWN = "Space not found"
PARENT_UNKNOWN = "Parent id: no such space in this project"
SPACE_UNKNOWN = "Space id: no such space"
PATH_TAKEN = "Name has already been taken in this place"
PATH_BYTES_MAX = bounds.SPACE_PATH_BYTES_MAX
PATH_TOO_LONG = f"Full path would be longer than {PATH_BYTES_MAX} bytes"
DEPTH_MAX = bounds.SPACE_DEPTH_MAX

TemperatureUnits = Literal["celsius", "fahrenheit"]

COLUMNS = """s.id, s.project_id, s.parent_id, s.name, s.full_path, s.latitude, s.longitude, s.location_name,
             s.time_zone, s.temperature_units, s.maintenance, s.config, s.created_at"""
"""What a `Space` is read from, of the table as `s`."""


class Space(Struct):
    """One place."""

    id: UUID
    project_id: UUID
    parent_id: UUID | None
    name: str
    full_path: str
    latitude: float | None
    longitude: float | None
    location_name: str | None
    time_zone: str
    temperature_units: TemperatureUnits
    maintenance: bool
    config: dict[str, Any]
    created_at: datetime


async def read(connection: Executor, organization_id: UUID, space_id: UUID) -> Space:
    """Raises NotFound for an unknown space and for another organization's alike."""
    row = await connection.fetchrow(
        f"SELECT {COLUMNS} FROM spaces s JOIN projects p ON p.id = s.project_id"
        " WHERE s.id = $1 AND p.organization_id = $2",
        space_id,
        organization_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return Space(**row)


async def create(
    connection: Connection,
    organization_id: UUID,
    project_id: UUID,
    name: str,
    *,
    parent_id: UUID | None = None,
    latitude: float | None = None,
    longitude: float | None = None,
    location_name: str | None = None,
    time_zone: str = "UTC",
    temperature_units: TemperatureUnits = "celsius",
    maintenance: bool = False,
    config: Mapping[str, Any] = {},
) -> Space:
    """A new space. Raises NotFound for the project, DoesNotFit for the parent, a path that is taken or too long."""
    async with connection.transaction():
        await projects.lock(connection, organization_id, project_id)
        path = await _path(connection, project_id, parent_id, name)
        try:
            row = await connection.fetchrow(
                f"""INSERT INTO spaces AS s (id, project_id, parent_id, name, full_path, latitude, longitude,
                                             location_name, time_zone, temperature_units, maintenance, config)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING {COLUMNS}""",
                ids.new_id(),
                project_id,
                parent_id,
                name,
                path,
                latitude,
                longitude,
                location_name,
                time_zone,
                temperature_units,
                maintenance,
                config,
            )
        except asyncpg.UniqueViolationError:
            raise DoesNotFit(PATH_TAKEN) from None
    assert row is not None
    return Space(**row)


async def find_or_create(
    connection: Connection,
    organization_id: UUID,
    project_id: UUID,
    path: list[str],
    *,
    config: Mapping[str, Any] = {},
) -> Space:
    """The space at `path` (names from the root down), made with `config`, and with all that is missing above it.

    Raises NotFound for the project, DoesNotFit when the path is empty, too deep or too long.
    """
    if not 1 <= len(path) <= DEPTH_MAX:
        raise DoesNotFit(f"Path must have 1 to {DEPTH_MAX} names")
    found = await _at(connection, organization_id, project_id, "/".join(path))
    if found is not None:
        return found
    async with connection.transaction():
        await projects.lock(connection, organization_id, project_id)
        parent_id = None
        for depth in range(1, len(path) + 1):
            found = await _at(connection, organization_id, project_id, "/".join(path[:depth]))
            if found is None:
                given = config if depth == len(path) else {}
                found = await create(
                    connection, organization_id, project_id, path[depth - 1], parent_id=parent_id, config=given
                )
            parent_id = found.id
    assert found is not None
    return found


async def unsorted(connection: Connection, organization_id: UUID, project_id: UUID) -> UUID:
    """The space for devices of a project that nobody put anywhere; made when it is first needed."""
    return (await find_or_create(connection, organization_id, project_id, [UNSORTED])).id


async def project_of(connection: Executor, organization_id: UUID, parent_id: UUID) -> UUID:
    """The project of a space that others are to be made in. Raises DoesNotFit."""
    try:
        return (await read(connection, organization_id, parent_id)).project_id
    except NotFound:
        raise DoesNotFit(PARENT_UNKNOWN) from None


async def names_of(connection: Executor, project_id: UUID, space_id: UUID) -> list[str]:
    """The names of a space and of those above it, from the root down. Raises DoesNotFit."""
    path: str | None = await connection.fetchval(
        "SELECT full_path FROM spaces WHERE id = $1 AND project_id = $2", space_id, project_id
    )
    if path is None:
        raise DoesNotFit(PARENT_UNKNOWN)
    return path.split("/")


async def keep(connection: Connection, organization_id: UUID, space_id: UUID) -> UUID:
    """The project of a space, which cannot be deleted before the transaction ends. Raises DoesNotFit."""
    project_id: UUID | None = await connection.fetchval(
        """SELECT s.project_id FROM spaces s JOIN projects p ON p.id = s.project_id
            WHERE s.id = $1 AND p.organization_id = $2 FOR KEY SHARE OF s""",
        space_id,
        organization_id,
    )
    if project_id is None:
        raise DoesNotFit(SPACE_UNKNOWN)
    return project_id


async def lock(connection: Connection, organization_id: UUID, space_id: UUID) -> Space:
    """A space whose project's tree no one else changes until the transaction ends. Raises NotFound."""
    space = await read(connection, organization_id, space_id)
    await projects.lock(connection, organization_id, space.project_id)
    return await read(connection, organization_id, space_id)


async def update(change: Change, was: Space, changed: Space) -> None:
    """Store a space that is locked and was changed; devices that see a difference are told.

    A new name or parent rewrites the paths of everything below, and `changed.full_path`. Raises DoesNotFit for a
    parent that does not fit, a path that is taken or too long.
    """
    if changed == was:
        return
    connection = change.connection
    if changed.parent_id is not None and await _is_within(connection, changed.parent_id, changed.id):
        raise DoesNotFit("Parent id: a space cannot be moved into itself")
    path = was.full_path
    if (changed.name, changed.parent_id) != (was.name, was.parent_id):
        path = await _path(connection, changed.project_id, changed.parent_id, changed.name)
        await _rewrite_paths(connection, was, path)
    await connection.execute(
        """UPDATE spaces SET parent_id = $2, name = $3, latitude = $4, longitude = $5, location_name = $6,
                  time_zone = $7, temperature_units = $8, maintenance = $9, config = $10 WHERE id = $1""",
        changed.id,
        changed.parent_id,
        changed.name,
        changed.latitude,
        changed.longitude,
        changed.location_name,
        changed.time_zone,
        changed.temperature_units,
        changed.maintenance,
        changed.config,
    )
    changed.full_path = path
    if _as_devices_see_it(changed) == _as_devices_see_it(was):
        return
    rows = await connection.fetch(
        """UPDATE devices SET space_data_version = space_data_version + 1
            WHERE id IN (SELECT id FROM devices WHERE space_id = $1 AND deleted_at IS NULL
                          ORDER BY id FOR NO KEY UPDATE)
           RETURNING id""",
        changed.id,
    )
    change.touched(*(row["id"] for row in rows))


async def delete(connection: Connection, organization_id: UUID, space_id: UUID) -> None:
    """Delete an empty space. Raises NotFound, or DoesNotFit while it has devices or spaces in it."""
    async with connection.transaction():
        await lock(connection, organization_id, space_id)
        await release_deleted_devices(connection, "space_id", space_id)
        try:
            await connection.execute("DELETE FROM spaces WHERE id = $1", space_id)
        except (asyncpg.ForeignKeyViolationError, asyncpg.RestrictViolationError) as error:
            held_by = {"spaces": "spaces", "cloud_connectors": "cloud connectors"}
            raise DoesNotFit(f"Space still has {held_by.get(str(error.table_name), 'devices')} in it") from None


async def release_deleted_devices(
    connection: Connection, place: Literal["space_id", "project_id"], place_id: UUID
) -> None:
    """Rows of deleted devices no longer keep their space or project; history keeps the project it happened in."""
    await connection.execute(
        f"""UPDATE devices SET organization_id = NULL, project_id = NULL, space_id = NULL, claimed_at = NULL
             WHERE id IN (SELECT id FROM devices WHERE {place} = $1 AND deleted_at IS NOT NULL
                           ORDER BY id FOR NO KEY UPDATE)""",
        place_id,
    )


async def _at(connection: Connection, organization_id: UUID, project_id: UUID, path: str) -> Space | None:
    row = await connection.fetchrow(
        f"""SELECT {COLUMNS} FROM spaces s JOIN projects p ON p.id = s.project_id
             WHERE s.project_id = $1 AND s.full_path = $2 AND p.organization_id = $3""",
        project_id,
        path,
        organization_id,
    )
    return None if row is None else Space(**row)


async def _path(connection: Connection, project_id: UUID, parent_id: UUID | None, name: str) -> str:
    """Where a space of that name would be. Raises DoesNotFit."""
    path = name
    if parent_id is not None:
        above = await connection.fetchval(
            "SELECT full_path FROM spaces WHERE id = $1 AND project_id = $2", parent_id, project_id
        )
        if above is None:
            raise DoesNotFit(PARENT_UNKNOWN)
        path = f"{above}/{name}"
    _check_path(path)
    return path


def _check_path(path: str) -> None:
    if len(path.encode()) > PATH_BYTES_MAX:
        raise DoesNotFit(PATH_TOO_LONG)
    if path.count("/") >= DEPTH_MAX:
        raise DoesNotFit(f"Spaces are at most {DEPTH_MAX} deep")


async def _is_within(connection: Connection, space_id: UUID, top_id: UUID) -> bool:
    """Whether a space is `top_id` or lies below it."""
    found: bool = await connection.fetchval(
        """WITH RECURSIVE above AS (
               SELECT id, parent_id FROM spaces WHERE id = $1
               UNION ALL SELECT s.id, s.parent_id FROM spaces s JOIN above a ON s.id = a.parent_id)
           SELECT EXISTS (SELECT FROM above WHERE id = $2)""",
        space_id,
        top_id,
    )
    return found


async def _rewrite_paths(connection: Connection, was: Space, path: str) -> None:
    """Give a space and all below it their new paths. Raises DoesNotFit."""
    try:
        rewritten = await connection.fetch(
            """WITH RECURSIVE below AS (
                   SELECT id, $2::text AS path FROM spaces WHERE id = $1
                   UNION ALL
                   SELECT s.id, below.path || '/' || s.name FROM spaces s JOIN below ON s.parent_id = below.id)
               UPDATE spaces s SET full_path = below.path FROM below WHERE s.id = below.id RETURNING s.full_path""",
            was.id,
            path,
        )
    except asyncpg.UniqueViolationError:
        raise DoesNotFit(PATH_TAKEN) from None
    except asyncpg.ProgramLimitExceededError:
        raise DoesNotFit(PATH_TOO_LONG) from None
    for row in rewritten:
        _check_path(row["full_path"])


def _as_devices_see_it(space: Space) -> tuple[object, ...]:
    """What GET space tells a device: its own place, not the places above."""
    return (
        space.name,
        space.latitude,
        space.longitude,
        space.location_name,
        space.time_zone,
        space.temperature_units,
        space.maintenance,
    )
