"""A device that its owner (or the vendor of its model) is about to change: locked first, then changed.

Everything here runs in the caller's transaction. Each change counts up the version that tells the device of it, and
is told to the project.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from gateway.stores.devices import labels
from gateway.stores.devices.owner_view import UNKNOWN
from schemas import outbox
from schemas.life_cycle import ConfigChanged, DeviceMoved
from schemas.postgres import Connection

SPACE_UNKNOWN = "Space id: no such space"


class Held(Struct, frozen=True):
    """A device of the caller's, locked for the transaction that changes it."""

    id: UUID
    shard: int
    model_id: UUID
    project_id: UUID
    space_id: UUID
    name: str
    details: dict[str, Any]
    config_version: int
    open_commands: int


async def hold(connection: Connection, organization_id: UUID, device_id: UUID) -> Held:
    """Lock a device that the organisation owns until the end of the transaction. Raises NotFound."""
    row = await connection.fetchrow(
        """SELECT id, shard, model_id, project_id, space_id, name, details, config_version, open_commands
             FROM devices WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE""",
        device_id,
        organization_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return Held(**row)


async def hold_of_vendor(connection: Connection, organization_id: UUID, device_id: UUID) -> None:
    """Lock a device of one of the organisation's models until the end of the transaction. Raises NotFound."""
    if not await connection.fetchval(
        """SELECT true FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.id = $1 AND m.organization_id = $2 AND d.deleted_at IS NULL FOR NO KEY UPDATE OF d""",
        device_id,
        organization_id,
    ):
        raise NotFound(UNKNOWN)


async def update(connection: Connection, held: Held, *, name: str, details: dict[str, Any], moment: datetime) -> bool:
    """Store what the owner calls and notes of a device; False when nothing is different."""
    # Compared as JSON: to Python 1, 1.0 and true are equal.
    if name == held.name and msgspec.json.encode(details) == msgspec.json.encode(held.details):
        return False
    await connection.execute(
        "UPDATE devices SET name = $2, details = $3, info_version = info_version + 1 WHERE id = $1",
        held.id,
        name,
        details,
    )
    await labels.tell_name(connection, held.id, held.name, name, moment)
    return True


async def put_config(connection: Connection, held: Held, config: dict[str, Any], moment: datetime) -> int:
    """Store the owner's config as the next version, and return that."""
    version: int = await connection.fetchval(
        """UPDATE devices SET config = $2, config_version = config_version + 1, config_updated_at = $3
            WHERE id = $1 RETURNING config_version""",
        held.id,
        config,
        moment,
    )
    await outbox.append(connection, [outbox.event(held.id, ConfigChanged(version=version), moment)])
    return version


async def move(
    connection: Connection,
    held: Held,
    organization_id: UUID,
    project_id: UUID,
    space_id: UUID,
    moment: datetime,
    *,
    to_organization_id: UUID | None = None,
) -> list[UUID]:
    """Put a device into another space, with all devices below it that are in the same space; returns those moved.

    `organization_id` owns them, and from then on `to_organization_id` where that is another one. A device that comes
    into another project is told of in both.
    """
    if space_id == held.space_id:
        return []
    rows = await connection.fetch(
        """WITH RECURSIVE moving AS (
               SELECT id FROM devices WHERE id = $1
               UNION ALL
               SELECT d.id FROM devices d JOIN moving ON d.parent_id = moving.id
                WHERE d.space_id = $2 AND d.organization_id = $5 AND d.deleted_at IS NULL)
           UPDATE devices SET space_id = $3, project_id = $4, organization_id = $6,
                  space_data_version = space_data_version + 1
            WHERE id IN (SELECT id FROM moving) RETURNING id""",
        held.id,
        held.space_id,
        space_id,
        project_id,
        organization_id,
        to_organization_id or organization_id,
    )
    moved = DeviceMoved(
        from_project_id=held.project_id, from_space_id=held.space_id, to_project_id=project_id, to_space_id=space_id
    )
    projects = dict.fromkeys((held.project_id, project_id))
    await outbox.append(
        connection, [outbox.event(row["id"], moved, moment, project) for row in rows for project in projects]
    )
    return [row["id"] for row in rows]


async def space_project(connection: Connection, organization_id: UUID, space_id: UUID) -> UUID:
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
