"""Deleting devices: the row stays, as the reason why its keys are refused for ever."""

from datetime import datetime
from uuid import UUID

from schemas import outbox
from schemas.life_cycle import CommandUpdated, DeviceDeleted, LifeCycle
from schemas.postgres import Connection

_DOOMED = """
    WITH RECURSIVE doomed AS (
        SELECT id FROM devices WHERE id = $1 AND deleted_at IS NULL
        UNION SELECT d.id FROM devices d JOIN doomed ON d.parent_id = doomed.id WHERE d.deleted_at IS NULL)
"""


async def delete(connection: Connection, device_id: UUID, moment: datetime) -> list[UUID]:
    """Delete a device and all devices below it, inside the caller's transaction.

    Their open and scheduled commands are aborted. Returns the ids whose replies must be published after the commit;
    none when the device was deleted before.
    """
    # Commands are locked before their devices, as by whoever reports a command and so counts open ones.
    await connection.execute(
        f"""{_DOOMED} SELECT FROM commands WHERE device_id IN (SELECT id FROM doomed)
            AND status IN ('scheduled', 'pending', 'in_progress') ORDER BY number FOR NO KEY UPDATE""",
        device_id,
    )
    # Waits for children that are being registered just now; the next statement sees them.
    await connection.execute(
        f"{_DOOMED} SELECT FROM devices WHERE id IN (SELECT id FROM doomed) ORDER BY id FOR NO KEY UPDATE", device_id
    )
    rows = await connection.fetch(
        f"""{_DOOMED} UPDATE devices SET deleted_at = $2
             WHERE id IN (SELECT id FROM doomed) AND deleted_at IS NULL
            RETURNING id""",
        device_id,
        moment,
    )
    ids = [row["id"] for row in rows]
    aborted = await connection.fetch(
        """UPDATE commands SET status = 'aborted', finished_at = $2, message = 'device deleted'
            WHERE device_id = ANY($1::uuid[]) AND status IN ('scheduled', 'pending', 'in_progress')
           RETURNING id, device_id, name, status, message""",
        ids,
        moment,
    )
    of_device: dict[UUID, list[LifeCycle]] = {device_id: [] for device_id in ids}
    for row in aborted:
        of_device[row["device_id"]].append(CommandUpdated.of_row(row))
    await outbox.append(
        connection,
        [
            outbox.event(device_id, told, moment)
            for device_id in ids
            for told in (*of_device[device_id], DeviceDeleted())
        ],
    )
    return ids
