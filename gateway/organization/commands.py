"""Commands to the owner's devices: send by definition, list, cancel."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct, field

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import PER_PAGE, Page, PageNumber, Window
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, Gone, NotFound
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.commands import definitions, sending
from gateway.stores.commands.definitions import CommandDefinition, FieldType
from gateway.stores.commands.sending import Command, Status
from gateway.stores.devices import locking, owner_view
from gateway.stores.devices.locking import LockedDevice
from gateway.stores.files import reach
from gateway.stores.files.catalog import UNKNOWN as UNKNOWN_FILE
from gateway.stores.files.reach import ReleasedFile
from schemas import download_tokens
from schemas.ids import uuid_of
from schemas.postgres import Connection

BODY_BYTES_MAX = 64 * 1024
PER_PAGE_MAX = 500
AHEAD_MAX = timedelta(days=366)

INTEGERS = range(-(2**63), 2**63)
_KINDS: dict[FieldType, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "integer": ("a 64-bit integer", lambda value: type(value) is int and value in INTEGERS),
    "number": ("a number", lambda value: type(value) is float or (type(value) is int and value in INTEGERS)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
}


class NewCommand(Struct):
    """A command of the device's model, by its name (`command` or `name`), its friendly name, or both where they agree.

    `extra_params` are values for its fields. With `file_id`, a file that is released for the device, it is told where
    to fetch it: `url` (which needs no key), `version`, `checksum` and `signature`. What is blank is absent.
    """

    command: Label | None = None
    name: Label | None = None
    friendly_name: Label | None = None
    extra_params: dict[str, Any] = field(default_factory=dict)
    file_id: Label | None = None
    scheduled_at: Annotated[datetime, Meta(tz=True)] | None = None


class CommandsQuery(Struct, kw_only=True):
    """Which commands of a device."""

    status: Status | None = None
    page: PageNumber = 1
    per_page: Annotated[int, Meta(ge=1, le=PER_PAGE_MAX)] = PER_PAGE

    def is_long(self) -> bool:
        """See `paging.PageQuery`."""
        return paging.reaches_far(self.page, self.per_page)


@endpoint(
    "POST",
    "/core/v1/organization/devices/{device_id}/commands",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    status=201,
    errors={
        404: "Device not found.",
        409: "The device has one that has not ended, and may not have several.",
        429: "The device has too many open commands.",
    },
    body_bytes_max=BODY_BYTES_MAX,
)
async def send_command(
    services: Services, organization: OrganizationScope, device_id: UUID, body: NewCommand
) -> Command:
    """Send a command, now or at `scheduled_at`."""
    moment = services.clock()
    name = body.command or body.name or None
    friendly_name = body.friendly_name or None
    if body.name not in (None, "", name):
        raise DoesNotFit("Command and name are two words for the same: give one of them")
    if name is None and friendly_name is None:
        raise DoesNotFit("Command can't be blank: give command or friendly name")
    if body.scheduled_at is not None and not moment < body.scheduled_at <= moment + AHEAD_MAX:
        raise DoesNotFit(f"Scheduled at must be in the future, at most {AHEAD_MAX.days} days ahead")
    async with change(services) as changed:
        device = await locking.lock(changed.connection, organization.id, device_id)
        definition = await definitions.find(changed.connection, device.model_id, name=name, friendly_name=friendly_name)
        if definition is None:
            member = "Friendly name" if name is None else "Command"
            both = " with this friendly name" if name is not None and friendly_name is not None else ""
            raise DoesNotFit(f"{member}: the device's model has no such command{both}")
        if not definition.active:
            raise DoesNotFit(f"Command: {definition.name} is not active")
        if definition.needs_file and not body.file_id:
            raise DoesNotFit("File id can't be blank: this command needs a file")
        check_parameters(definition, body.extra_params)
        parameters = body.extra_params
        if body.file_id:
            file = await _file(changed.connection, device, body.file_id)
            parameters = parameters | {
                "url": download_tokens.url(
                    services.url, services.master_keys, device_id, file.id, body.scheduled_at or moment
                ),
                "version": file.version,
                "checksum": file.checksum,
                "signature": file.signature,
            }
        return await sending.create(changed, device, definition, parameters, scheduled_at=body.scheduled_at)


async def _file(connection: Connection, device: LockedDevice, file_id: str) -> ReleasedFile:
    """The file of a command. Raises DoesNotFit unless it is released for the device."""
    known = uuid_of(file_id)
    try:
        if known is not None:
            return await reach.find(connection, device, known)
    except (NotFound, Gone):
        pass
    raise DoesNotFit(UNKNOWN_FILE)


@endpoint(
    "GET",
    "/core/v1/organization/devices/{device_id}/commands",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def list_commands(
    services: Services, organization: OrganizationScope, device_id: UUID, query: CommandsQuery
) -> Page[Command]:
    """List a device's commands, newest first."""
    await owner_view.read(services.postgres, organization.id, device_id)
    return await command_page(services, device_id, query)


@endpoint(
    "DELETE",
    "/core/v1/organization/devices/{device_id}/commands/{command_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Command not found.", 409: "The device has begun it, or it has ended."},
)
async def cancel_command(
    services: Services, organization: OrganizationScope, device_id: UUID, command_id: UUID
) -> Command:
    """Cancel a command that the device has not begun."""
    async with change(services) as changed:
        return await sending.cancel(changed, organization.id, device_id, command_id)


async def command_page(services: Services, device_id: UUID, query: CommandsQuery) -> Page[Command]:
    """A page of the commands of a device that the caller may see."""

    async def read(window: Window) -> list[Command]:
        return await sending.page(
            services.postgres,
            device_id,
            status=query.status,
            before=None if window.after is None else int(window.after[0]),
            offset=window.offset,
            limit=window.limit,
        )

    return await paging.read_page(
        services,
        ("commands", device_id, query.status),
        query.page,
        query.per_page,
        read,
        boundary=lambda command: [command.number],
    )


def check_parameters(definition: CommandDefinition, parameters: dict[str, Any]) -> None:
    """Raises DoesNotFit that names the first parameter that the definition does not allow."""
    fields = {known.name: known for known in definition.fields}
    for name, value in parameters.items():
        if name not in fields:
            raise DoesNotFit(f"Extra params.{name} is not a parameter of {definition.name}")
        kind, fits = _KINDS[fields[name].type]
        if not fits(value):
            raise DoesNotFit(f"Extra params.{name} must be {kind}")
        if fields[name].options and value not in fields[name].options:
            raise DoesNotFit(f"Extra params.{name} must be one of {', '.join(fields[name].options)}")
    for known in definition.fields:
        if known.required and known.name not in parameters:
            raise DoesNotFit(f"Extra params.{known.name} can't be blank")


ENDPOINTS = (send_command, list_commands, cancel_command)
