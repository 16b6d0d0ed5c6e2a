"""Deleting devices: the row stays, as the reason why its keys are refused for ever. The only place that does it."""

from collections.abc import Sequence
from uuid import UUID

from gateway.stores.change import Change
from gateway.stores.devices.locking import THESE, TREES, lock_trees
from schemas.life_cycle import CommandUpdated, DeviceDeleted, LifeCycle

BATCH = 10_000
STATEMENT_S = 600.0
"""A device may have ten thousand below it."""

_TREES = TREES.format(tops=THESE)
_OPEN = "status IN ('scheduled', 'pending', 'in_progress')"


async def delete(change: Change, device_ids: Sequence[UUID]) -> int:
    """Delete devices and all devices below them; returns how many. Those that were deleted before are left alone.

    Their open and scheduled commands are aborted, which is told before the deletion.
    """
    await lock_trees(change.connection, THESE, list(device_ids), limit_s=STATEMENT_S)
    batches = [list(device_ids[first : first + BATCH]) for first in range(0, len(device_ids), BATCH)]
    return sum([await _delete(change, batch) for batch in batches])


async def _delete(change: Change, device_ids: list[UUID]) -> int:
    connection, moment = change.connection, change.moment
    rows = await connection.fetch(
        f"""{_TREES} UPDATE devices SET deleted_at = $2
             WHERE id IN (SELECT id FROM tree) AND deleted_at IS NULL RETURNING id""",
        device_ids,
        moment,
        timeout=STATEMENT_S,
    )
    deleted = [row["id"] for row in rows]
    aborted = await connection.fetch(
        f"""UPDATE commands SET status = 'aborted', finished_at = $2, message = 'device deleted'
             WHERE id IN (SELECT id FROM commands WHERE device_id = ANY($1::uuid[]) AND {_OPEN}
                           ORDER BY number FOR NO KEY UPDATE)
            RETURNING id, device_id, name, status, message""",
        deleted,
        moment,
        timeout=STATEMENT_S,
    )
    happened: dict[UUID, list[LifeCycle]] = {device_id: [] for device_id in deleted}
    for row in aborted:
        happened[row["device_id"]].append(CommandUpdated.of_row(row))
    for device_id, events in happened.items():
        for event in (*events, DeviceDeleted()):
            change.record(device_id, event)
    change.touched(*deleted)
    await change.append_events()
    return len(deleted)
