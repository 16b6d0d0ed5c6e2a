"""Moving a device into another space, with all devices below it that are in the same space.

The space may be of another project, and the project another organization's. What a move is stands in
`schemas.device_trees`, since importers move devices too; nobody else moves any. In which order a change locks what it
needs is written in `locking`.
"""

from typing import NamedTuple
from uuid import UUID

from gateway.refusals import NotFound
from gateway.stores.change import Change
from gateway.stores.devices import locking
from gateway.stores.devices.locking import UNKNOWN
from gateway.stores.tenants import spaces
from schemas import device_trees
from schemas.postgres import Connection, Executor


class Moved(NamedTuple):
    """From which project into which, and all devices that moved; none when the device was there already."""

    from_project_id: UUID
    to_project_id: UUID
    device_ids: list[UUID]


async def move(
    change: Change,
    owner_id: UUID,
    device_id: UUID,
    space_id: UUID,
    *,
    to_organization_id: UUID | None = None,
    from_project_id: UUID | None = None,
) -> Moved:
    """Put a device into a space, or leave it there.

    `owner_id` owns the device, and from then on `to_organization_id` where that is another one: then it parts from
    devices above and below it that stay. A device that comes into another project is told of in both. Raises NotFound
    when the device is not the owner's, or not in `from_project_id`; DoesNotFit when the space is not the new owner's.
    """
    new_owner_id = to_organization_id or owner_id
    # Looked for before anything is locked: to the caller an unknown device comes before an unknown space.
    await locking.check_owned(change.connection, owner_id, device_id)
    to_project_id = await spaces.keep(change.connection, new_owner_id, space_id)
    device = await locking.lock_with_all_below(change.connection, owner_id, device_id)
    if from_project_id not in (None, device.project_id):
        raise NotFound(UNKNOWN)
    if space_id == device.space_id:
        return Moved(device.project_id, to_project_id, [])
    trees = await device_trees.move_trees(
        change.connection,
        [(device.id, space_id)],
        owner_id=owner_id,
        to_project_id=to_project_id,
        to_organization_id=new_owner_id,
    )
    moved = [one.device_id for one in trees]
    if new_owner_id != owner_id:
        await _part(change.connection, device.id, moved, owner_id, new_owner_id)
    for one in trees:
        change.record_all(one.events(change.moment))
    change.touched(*moved)
    return Moved(device.project_id, to_project_id, moved)


async def _part(connection: Connection, device_id: UUID, moved: list[UUID], owner_id: UUID, new_owner_id: UUID) -> None:
    """Let no device be below one of another owner, which would be handed its commands and could delete it."""
    await connection.execute(
        """UPDATE devices d SET parent_id = NULL
            WHERE d.id = $1 AND EXISTS (SELECT FROM devices p WHERE p.id = d.parent_id AND p.organization_id <> $4)
               OR d.parent_id = ANY($2::uuid[]) AND d.organization_id = $3 AND d.deleted_at IS NULL""",
        device_id,
        moved,
        owner_id,
        new_owner_id,
    )


async def space_of_parent(connection: Executor, parent_id: UUID, owner_id: UUID) -> UUID | None:
    """Where a device goes that follows its parent: the parent's space; None when it has another owner, or none."""
    space_id: UUID | None = await connection.fetchval(
        "SELECT space_id FROM devices WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
        parent_id,
        owner_id,
    )
    return space_id
