"""Commands as their sender sees them: sent by definition, listed, cancelled.

    scheduled ─(time)─► pending ─► in_progress ─► done | failed        scheduled | pending ─(cancel)─► aborted

The device's side of a command is in another store, its time-outs in a worker.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import Conflict, NotFound, TooMany, retry_after_s
from gateway.stores.change import Change
from gateway.stores.commands.definitions import CommandDefinition
from gateway.stores.devices import locking
from gateway.stores.devices.locking import LockedDevice
from schemas import ids
from schemas.life_cycle import CommandStatus, CommandUpdated
from schemas.postgres import Executor

UNKNOWN = "Command not found"
TOO_LATE = "Command is {status}: only a scheduled or pending command can be cancelled"
ONE_AT_A_TIME = "The device has a command {name} that has not ended"
EXPIRES_AFTER = timedelta(days=7)
"""A command that is never fetched expires this long after it became pending."""
OPEN_MAX = 1_000
"""Most commands of one device that are scheduled, pending or in progress."""

Status = CommandStatus

_COMMAND = """c.id, c.device_id, c.name AS command, c.friendly_name, c.parameters, c.status, c.message, c.number,
              c.created_at, c.scheduled_at, c.delivered_at, c.finished_at, c.expires_at"""


class Command(Struct):
    """One command. `number` is its place in the order of creation."""

    id: UUID
    device_id: UUID
    command: str
    friendly_name: str
    parameters: dict[str, Any]
    status: Status
    message: str | None
    number: int
    created_at: datetime
    scheduled_at: datetime | None
    delivered_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime


async def create(
    change: Change,
    device: LockedDevice,
    definition: CommandDefinition,
    parameters: dict[str, Any],
    *,
    scheduled_at: datetime | None,
) -> Command:
    """Send a command, now or at a later time. Raises TooMany when the device has too many open ones, Conflict when
    it has one that may only be sent once it has ended.
    """
    if not definition.several and await change.connection.fetchval(
        """SELECT EXISTS (SELECT FROM commands WHERE device_id = $1 AND name = $2
                             AND status IN ('scheduled', 'pending', 'in_progress'))""",
        device.id,
        definition.name,
    ):
        raise Conflict(ONE_AT_A_TIME.format(name=definition.name))
    scheduled = await change.connection.fetchval(
        "SELECT count(*) FROM commands WHERE device_id = $1 AND status = 'scheduled'", device.id
    )
    if device.open_commands + scheduled >= OPEN_MAX:
        raise TooMany(f"A device has at most {OPEN_MAX} open commands", retry_after_s=retry_after_s())
    row = await change.connection.fetchrow(
        f"""INSERT INTO commands AS c (id, device_id, name, friendly_name, parameters, status, timeout_s, created_at,
                                       scheduled_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING {_COMMAND}""",
        ids.new_id(),
        device.id,
        definition.name,
        definition.friendly_name,
        parameters,
        "pending" if scheduled_at is None else "scheduled",
        definition.timeout_s,
        change.moment,
        scheduled_at,
        (scheduled_at or change.moment) + EXPIRES_AFTER,
    )
    assert row is not None
    return _sent(change, row)


async def page(
    connection: Executor,
    device_id: UUID,
    *,
    status: Status | None,
    before: int | None,
    offset: int,
    limit: int,
) -> list[Command]:
    """The commands of a device, newest first."""
    conditions: list[str] = ["c.device_id = $1"]
    arguments: list[Any] = [device_id, offset, limit]
    for condition, value in (("c.status = ${}", status), ("c.number < ${}", before)):
        if value is not None:
            arguments.append(value)
            conditions.append(condition.format(len(arguments)))
    rows = await connection.fetch(
        f"""SELECT {_COMMAND} FROM commands c WHERE {" AND ".join(conditions)}
             ORDER BY c.number DESC OFFSET $2 LIMIT $3""",
        *arguments,
    )
    return [Command(**row) for row in rows]


async def cancel(change: Change, organization_id: UUID, device_id: UUID, command_id: UUID) -> Command:
    """Abort a command that the device has not begun.

    Raises NotFound for an unknown command and for one of another organization alike, Conflict when it is too late.
    """
    await locking.lock(change.connection, organization_id, device_id, unknown=UNKNOWN)
    status = await change.connection.fetchval(
        "SELECT status FROM commands WHERE id = $1 AND device_id = $2 FOR NO KEY UPDATE", command_id, device_id
    )
    if status is None:
        raise NotFound(UNKNOWN)
    if status not in ("scheduled", "pending"):
        raise Conflict(TOO_LATE.format(status=status.replace("_", " ")))
    row = await change.connection.fetchrow(
        f"UPDATE commands c SET status = 'aborted', finished_at = $2 WHERE c.id = $1 RETURNING {_COMMAND}",
        command_id,
        change.moment,
    )
    assert row is not None
    return _sent(change, row)


def _sent(change: Change, row: asyncpg.Record) -> Command:
    """The command of a row that was just written, its device and its project told."""
    command = Command(**row)
    change.record(
        command.device_id,
        CommandUpdated(command_id=command.id, name=command.command, status=command.status, message=command.message),
    )
    change.touched(command.device_id)
    return command
