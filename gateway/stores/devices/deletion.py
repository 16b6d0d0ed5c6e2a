"""Deleting devices: the row stays, as the reason why its keys are refused for ever. The only place that does it."""

from collections.abc import Sequence
from uuid import UUID

from gateway.stores.change import Change
from schemas.life_cycle import CommandUpdated, DeviceDeleted, LifeCycle

BATCH = 10_000
STATEMENT_S = 600.0
"""A device may have ten thousand below it."""

_DOOMED = """
    WITH RECURSIVE doomed AS (
        SELECT id FROM devices WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL
        UNION SELECT d.id FROM devices d JOIN doomed ON d.parent_id = doomed.id WHERE d.deleted_at IS NULL)
"""
_OPEN = "status IN ('scheduled', 'pending', 'in_progress')"


async def delete(change: Change, device_ids: Sequence[UUID]) -> int:
    """Delete devices and all devices below them; returns how many. Those that were deleted before are left alone.

    Their open and scheduled commands are aborted, which is told before the deletion.
    """
    batches = [list(device_ids[first : first + BATCH]) for first in range(0, len(device_ids), BATCH)]
    return sum([await _delete(change, batch) for batch in batches])


async def _delete(change: Change, device_ids: list[UUID]) -> int:
    connection, moment = change.connection, change.moment
    # Commands are locked before their devices (see `moving`).
    await connection.execute(
        f"""{_DOOMED} SELECT FROM commands WHERE device_id IN (SELECT id FROM doomed) AND {_OPEN}
             ORDER BY number FOR NO KEY UPDATE""",
        device_ids,
        timeout=STATEMENT_S,
    )
    # Waits for children that are being registered just now; the next statement sees them.
    await connection.execute(
        f"{_DOOMED} SELECT FROM devices WHERE id IN (SELECT id FROM doomed) ORDER BY id FOR NO KEY UPDATE",
        device_ids,
        timeout=STATEMENT_S,
    )
    rows = await connection.fetch(
        f"""{_DOOMED} UPDATE devices SET deleted_at = $2
             WHERE id IN (SELECT id FROM doomed) AND deleted_at IS NULL RETURNING id""",
        device_ids,
        moment,
        timeout=STATEMENT_S,
    )
    deleted = [row["id"] for row in rows]
    aborted = await connection.fetch(
        f"""UPDATE commands SET status = 'aborted', finished_at = $2, message = 'device deleted'
             WHERE device_id = ANY($1::uuid[]) AND {_OPEN} RETURNING id, device_id, name, status, message""",
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
