"""The device's side of commands: handed out first in, first out, one at a time, and reported on.

    pending ─► in_progress ─► done | failed

Handing a command out changes no status, so a device that lost the answer just asks again; it only notes the first
delivery, from which on the command's timeout runs. What a firmware rollout sent is not handed out while that is paused.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound
from gateway.stores.change import Change
from schemas.life_cycle import CommandUpdated
from schemas.postgres import Connection

NO_COMMAND = "no command"
ATTEMPTS_MAX = 3

Reported = Literal["in_progress", "done", "failed"]


class NextCommand(Struct):
    """A command that waits for its device, or that the device is at."""

    id: UUID
    device_id: UUID
    status: Literal["pending", "in_progress"]
    name: str
    parameters: dict[str, Any]


async def hand_out(connection: Connection, device_ids: Collection[UUID], moment: datetime) -> list[NextCommand]:
    """The next command of each of these devices that has one."""
    for _ in range(ATTEMPTS_MAX):
        rows = await connection.fetch(
            """SELECT c.* FROM unnest($1::uuid[]) WITH ORDINALITY AS device (id, place)
                CROSS JOIN LATERAL (
                    SELECT id, device_id, status, name, parameters, delivered_at FROM commands
                     WHERE device_id = device.id AND status IN ('pending', 'in_progress')
                       AND (rollout_id IS NULL OR delivered_at IS NOT NULL OR EXISTS (
                            SELECT FROM rollouts r WHERE r.id = commands.rollout_id AND r.status = 'running'))
                     ORDER BY number LIMIT 1) c
                ORDER BY device.place""",
            device_ids,
        )
        fresh = [row["id"] for row in rows if row["delivered_at"] is None]
        if not fresh or await _deliver(connection, fresh, moment):
            break
    return [NextCommand(row["id"], row["device_id"], row["status"], row["name"], row["parameters"]) for row in rows]


async def _deliver(connection: Connection, command_ids: list[UUID], moment: datetime) -> bool:
    """Note the first delivery of these commands; False when one of them was cancelled or delivered just now."""
    delivered = await connection.fetch(
        """UPDATE commands SET delivered_at = $2
            WHERE id IN (SELECT id FROM commands
                          WHERE id = ANY($1::uuid[]) AND delivered_at IS NULL AND status IN ('pending', 'in_progress')
                          ORDER BY number FOR NO KEY UPDATE)
           RETURNING id""",
        command_ids,
        moment,
    )
    return len(delivered) == len(command_ids)


async def report(
    change: Change,
    device_id: UUID,
    command_id: UUID,
    status: Reported,
    message: str | None,
) -> None:
    """Store how a command goes, unless that was known.

    Raises NotFound for a command that is not the device's, is not due yet or was cancelled, and for one that has
    ended otherwise.
    """
    # The trigger that counts open commands would lock the device, but after the command.
    await change.connection.execute("SELECT FROM devices WHERE id = $1 FOR NO KEY UPDATE", device_id)
    command = await change.connection.fetchrow(
        "SELECT name, status, message FROM commands WHERE id = $1 AND device_id = $2 FOR NO KEY UPDATE",
        command_id,
        device_id,
    )
    if command is None or command["status"] in ("scheduled", "aborted"):
        raise NotFound(NO_COMMAND)
    ended = command["status"] in ("done", "failed")
    if ended and command["status"] != status:
        raise NotFound(NO_COMMAND)
    if ended or (command["status"] == status and message in (None, command["message"])):
        return
    await change.connection.execute(
        """UPDATE commands SET status = $2, message = coalesce($3, message),
                  delivered_at = coalesce(delivered_at, $4), finished_at = $5
            WHERE id = $1""",
        command_id,
        status,
        message,
        change.moment,
        None if status == "in_progress" else change.moment,
    )
    now_told = command["message"] if message is None else message
    updated = CommandUpdated(command_id=command_id, name=command["name"], status=status, message=now_told)
    change.record(device_id, updated)
    change.touched(device_id)
