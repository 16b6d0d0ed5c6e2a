"""Deleting devices: the row stays, as the reason why its keys are refused for ever. The only place that does it."""

from collections.abc import Sequence
from uuid import UUID

from gateway.refusals import Conflict
from gateway.stores.change import Change
from gateway.stores.devices import licensed
from schemas import incidents
from schemas.device_trees import THESE, TREES, lock_trees
from schemas.life_cycle import CommandUpdated, DeviceDeleted, LifeCycle
from schemas.postgres import Connection

BATCH = 10_000
STATEMENT_S = 600.0
"""A device may have ten thousand below it."""

_TREES = TREES.format(tops=THESE)
_CLAIMED_BELOW = """
    WITH RECURSIVE below AS (
        SELECT c.id, c.organization_id FROM devices c WHERE c.parent_id = d.id AND c.deleted_at IS NULL
        UNION SELECT c.id, c.organization_id FROM devices c JOIN below ON c.parent_id = below.id
               WHERE c.deleted_at IS NULL)
    SELECT FROM below WHERE organization_id IS NOT NULL
"""
STILL_GOOD = "Revoke the hardware key first: more devices could register with it meanwhile"
_OPEN = "status IN ('scheduled', 'pending', 'in_progress')"


async def delete(change: Change, device_ids: Sequence[UUID]) -> int:
    """Delete devices and all devices below them; returns how many. Those that were deleted before are left alone.

    Their open and scheduled commands are aborted, their licences available again and their incidents closed, which is
    told before the deletion.
    """
    await lock_trees(change.connection, THESE, list(device_ids), limit_s=STATEMENT_S)
    batches = [list(device_ids[first : first + BATCH]) for first in range(0, len(device_ids), BATCH)]
    return sum([await _delete(change, batch) for batch in batches])


async def registered_with(connection: Connection, hardware_key_id: UUID, limit: int) -> list[UUID]:
    """Devices that registered with a hardware key and are nobody's, with nothing of anybody's below them; oldest first.

    Raises Conflict while the key is good: more would register meanwhile.
    """
    row = await connection.fetchrow(
        "SELECT model_id, revoked_at IS NOT NULL AS revoked FROM hardware_keys WHERE id = $1 FOR SHARE", hardware_key_id
    )
    if row is None or not row["revoked"]:
        raise Conflict(STILL_GOOD)
    rows = await connection.fetch(
        f"""SELECT id FROM devices d
             WHERE model_id = $1 AND hardware_key_id = $2 AND organization_id IS NULL AND deleted_at IS NULL
               AND NOT EXISTS ({_CLAIMED_BELOW})
             ORDER BY id LIMIT $3""",
        row["model_id"],
        hardware_key_id,
        limit,
        timeout=STATEMENT_S,
    )
    return [row["id"] for row in rows]


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
    await incidents.close_all(connection, deleted, moment, ["device", "user", "rule"])
    happened: dict[UUID, list[LifeCycle]] = {device_id: [] for device_id in deleted}
    for row in aborted:
        happened[row["device_id"]].append(CommandUpdated.of_row(row))
    for device_id, freed in await licensed.free(connection, deleted, moment):
        happened[device_id].append(freed)
    for device_id, events in happened.items():
        for event in (*events, DeviceDeleted()):
            change.record(device_id, event)
    change.touched(*deleted)
    await change.append_events()
    return len(deleted)
