"""What a device is to install now, as one action with a number, and what the device itself tells of it.

Updaters know an action by its number, and skip one that they have finished. So it is another one for each attempt of a
rollout, and of 31 bits, since some keep it in an int.
"""

import hashlib
from uuid import UUID

from msgspec import Struct

from gateway.refusals import Gone, NotFound
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.files import reach
from gateway.stores.files.reach import ReleasedFile
from schemas.postgres import Connection, Executor


class Action(Struct):
    """The firmware that a device is offered."""

    number: int
    file: ReleasedFile


async def current(connection: Executor, device: DeviceCaller) -> Action | None:
    """The device's action, if it is offered any firmware."""
    row = await connection.fetchrow(
        """SELECT d.latest_fw_file_id AS file_id, coalesce(p.attempts, 0) AS attempts
             FROM devices d LEFT JOIN rollout_devices p
               ON p.device_id = d.id AND p.state IN ('offered', 'downloading', 'installing')
            WHERE d.id = $1 AND d.latest_fw_file_id IS NOT NULL""",
        device.id,
    )
    if row is None:
        return None
    try:
        file = await reach.find(connection, device, row["file_id"])
    except (Gone, NotFound):
        # Withdrawn a moment ago: what the device is offered is about to follow.
        return None
    return Action(_number(device.id, file.id, row["attempts"]), file)


def _number(device_id: UUID, file_id: UUID, attempt: int) -> int:
    digest = hashlib.blake2b(device_id.bytes + file_id.bytes + attempt.to_bytes(4), digest_size=4).digest()
    return int.from_bytes(digest) >> 1


async def tell_failed(connection: Connection, device_id: UUID, reason: str) -> None:
    """The device tells that the attempt that is under way has failed: evidence for its rollout, if it is in one."""
    await connection.execute(
        """UPDATE rollout_devices SET told_failed = $2, due_at = '-infinity'
            WHERE device_id = $1 AND state IN ('offered', 'downloading', 'installing')""",
        device_id,
        reason,
    )
