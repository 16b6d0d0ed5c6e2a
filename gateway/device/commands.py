"""Commands, as the device fetches them and reports on them."""

from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from gateway.callers import DeviceCaller
from gateway.endpoint import Endpoint, Success, endpoint
from gateway.errors import Refusal
from gateway.services import Gateway
from gateway.stores import children, device_commands
from gateway.stores.device_commands import NO_COMMAND, NextCommand, Reported
from gateway.stores.reply_writer import publish
from gateway.validation import Text

INVALID_STATUS = "invalid status: done/in-progress/failed"
STATUSES: dict[str, Reported] = {
    "in_progress": "in_progress",
    "in-progress": "in_progress",
    "done": "done",
    "failed": "failed",
    "error": "failed",
}


class CommandOrNothing(Struct):
    """The next command; an empty object when there is none."""

    id: UUID | UnsetType = UNSET
    device_id: UUID | UnsetType = UNSET
    status: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET


class CommandReport(Struct):
    """How a command goes: `status` is in_progress (or in-progress), done, failed (or error)."""

    id: str
    status: str | None = None
    message: Text | None = None


@endpoint("GET", "/v1/devices/{device_id}/command")
async def next_command(gateway: Gateway, device: DeviceCaller) -> CommandOrNothing:
    """Read the device's next command: first in, first out, the same one until it has ended."""
    async with gateway.postgres.acquire() as connection:
        found = await device_commands.hand_out(connection, [device.id], gateway.clock())
    if not found:
        return CommandOrNothing()
    command = found[0]
    return CommandOrNothing(command.id, command.device_id, command.status, command.name, command.parameters)


@endpoint("GET", "/v1/devices/{device_id}/command/pending_commands")
async def pending_commands(gateway: Gateway, device: DeviceCaller) -> list[NextCommand]:
    """Read the next command of the device and of each of its children."""
    async with gateway.postgres.acquire() as connection:
        below = await children.ids(connection, device.id)
        return await device_commands.hand_out(connection, [device.id, *below], gateway.clock())


@endpoint(
    "POST",
    "/v1/devices/{device_id}/command",
    errors={404: "The device has no such command, or it has ended otherwise.", 422: "The status is none of the three."},
)
async def report_command(gateway: Gateway, device: DeviceCaller, body: CommandReport) -> Success:
    """Report that a command was begun, or how it ended; without `status` that it is done."""
    status = STATUSES.get("done" if body.status is None else body.status)
    if status is None:
        raise Refusal(422, INVALID_STATUS)
    try:
        command_id = UUID(body.id)
    except ValueError:
        raise Refusal(404, NO_COMMAND) from None
    async with gateway.postgres.acquire() as connection:
        async with connection.transaction():
            changed = await device_commands.report(
                connection, device, command_id, status, body.message, gateway.clock()
            )
        if changed:
            await publish(gateway, connection, [device.id])
    return Success()


ENDPOINTS: tuple[Endpoint, ...] = (next_command, pending_commands, report_command)
