"""Moving a device into another space, with all devices below it that are in the same space.

The space may be of another project, and the project another organization's. The importer moves devices in sets
(workers/importer/diff.py); nobody else moves any. In which order a change locks what it needs is written in `locking`.
"""

from typing import NamedTuple
from uuid import UUID

from gateway.refusals import NotFound
from gateway.stores.change import Change
from gateway.stores.devices import locking
from gateway.stores.devices.locking import UNKNOWN
from gateway.stores.tenants import spaces
from schemas.life_cycle import DeviceMoved
from schemas.postgres import Executor


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

    `owner_id` owns the device, and from then on `to_organization_id` where that is another one. A device that comes
    into another project is told of in both. Raises NotFound when the device is not the owner's, or not in
    `from_project_id`; DoesNotFit when the space is not the new owner's.
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
    rows = await change.connection.fetch(
        """WITH RECURSIVE moving AS (
               SELECT id FROM devices WHERE id = $1
               UNION ALL
               SELECT d.id FROM devices d JOIN moving ON d.parent_id = moving.id
                WHERE d.space_id = $2 AND d.organization_id = $5 AND d.deleted_at IS NULL)
           UPDATE devices SET space_id = $3, project_id = $4, organization_id = $6,
                  space_data_version = space_data_version + 1
            WHERE id IN (SELECT id FROM moving) RETURNING id""",
        device.id,
        device.space_id,
        space_id,
        to_project_id,
        owner_id,
        new_owner_id,
    )
    moved = [row["id"] for row in rows]
    event = DeviceMoved(
        from_project_id=device.project_id,
        from_space_id=device.space_id,
        to_project_id=to_project_id,
        to_space_id=space_id,
    )
    for moved_id in moved:
        for project_id in dict.fromkeys((device.project_id, to_project_id)):
            change.record(moved_id, event, project_id)
    change.touched(*moved)
    return Moved(device.project_id, to_project_id, moved)


async def space_of_parent(connection: Executor, parent_id: UUID, owner_id: UUID) -> UUID | None:
    """Where a device goes that follows its parent: the parent's space; None when it has another owner, or none."""
    space_id: UUID | None = await connection.fetchval(
        "SELECT space_id FROM devices WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
        parent_id,
        owner_id,
    )
    return space_id
