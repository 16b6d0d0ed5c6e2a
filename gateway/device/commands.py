"""Commands, as the device fetches them and reports on them."""

from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request

from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, Success, endpoint
from gateway.api.validation import Text
from gateway.device.hub_url import hub_url
from gateway.refusals import DoesNotFit, Malformed, NotFound
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.commands import delivery
from gateway.stores.commands.delivery import NO_COMMAND, NextCommand, Reported
from gateway.stores.devices import children
from gateway.stores.devices.identity import DeviceCaller
from schemas import download_tokens
from schemas.ids import uuid_of

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


@endpoint("GET", "/v1/devices/{device_id}/command", caller=DEVICE)
async def next_command(services: Services, device: DeviceCaller, request: Request) -> CommandOrNothing:
    """Read the device's next command: first in, first out, the same one until it has ended."""
    async with services.postgres.acquire() as connection:
        found = await delivery.hand_out(connection, [device.id], services.clock())
    if not found:
        return CommandOrNothing()
    command = found[0]
    parameters = _reachable(services, request, command.parameters)
    return CommandOrNothing(command.id, command.device_id, command.status, command.name, parameters)


@endpoint("GET", "/v1/devices/{device_id}/command/pending_commands", caller=DEVICE)
async def pending_commands(services: Services, device: DeviceCaller, request: Request) -> list[NextCommand]:
    """Read the next command of the device and of each of its children."""
    async with services.postgres.acquire() as connection:
        below = await children.ids(connection, device.id)
        found = await delivery.hand_out(connection, [device.id, *below], services.clock())
    for command in found:
        command.parameters = _reachable(services, request, command.parameters)
    return found


def _reachable(services: Services, request: Request, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters, where the URL of a file of ours is one that the device can call."""
    url = parameters.get("url")
    if not isinstance(url, str):
        return parameters
    try:
        return parameters | {"url": download_tokens.moved(url, hub_url(services, request))}
    except Malformed:
        return parameters


@endpoint(
    "POST",
    "/v1/devices/{device_id}/command",
    caller=DEVICE,
    errors={404: "The device has no such command, or it has ended otherwise.", 422: "The status is none of the three."},
)
async def report_command(services: Services, device: DeviceCaller, body: CommandReport) -> Success:
    """Report that a command was begun, or how it ended; without `status` that it is done."""
    status = STATUSES.get("done" if body.status is None else body.status)
    if status is None:
        raise DoesNotFit(INVALID_STATUS)
    command_id = uuid_of(body.id)
    if command_id is None:
        raise NotFound(NO_COMMAND)
    async with change(services) as changed:
        await delivery.report(changed, device.id, command_id, status, body.message)
    return Success()


ENDPOINTS: tuple[Endpoint, ...] = (next_command, pending_commands, report_command)
