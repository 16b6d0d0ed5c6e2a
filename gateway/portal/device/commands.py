"""The commands of a device: sent by a form that its definition makes, cancelled, and what became of each."""

from datetime import datetime
from typing import Annotated, Any, get_args
from uuid import UUID

from msgspec import Meta, Struct, field
from starlette.responses import Response

from gateway.api.paging import PageQuery
from gateway.api.scopes import FleetScope
from gateway.api.validation import Label
from gateway.organization import command_definitions, commands, devices, files
from gateway.organization.commands import CommandsQuery, NewCommand
from gateway.organization.files import FilesQuery
from gateway.permissions import Permission
from gateway.portal.device.shared import PATH, shown
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services
from gateway.stores.commands.definitions import CommandDefinition, CommandField
from gateway.stores.commands.sending import Command, Status

DEFINITIONS = PageQuery(per_page=100)
COMMANDS = 25


class ShownQuery(CommandsQuery, kw_only=True):
    """Which commands are listed, and which one there is a form for."""

    command: Label | None = None
    per_page: Annotated[int, Meta(ge=1, le=100)] = COMMANDS


class Sending(Struct, kw_only=True):
    """A command as the form says it: its parameters are texts."""

    command: Label
    extra_params: dict[str, str] = field(default_factory=dict)
    file_id: Label | None = None
    scheduled_at: Annotated[datetime, Meta(tz=True)] | None = None


@page("GET", f"{PATH}/commands", permission=Permission.READ)
async def list_commands(services: Services, fleet: FleetScope, device_id: UUID, query: ShownQuery, form: Form) -> View:
    """The commands of a device."""
    organization = await fleet.over(services, device_id)
    device = await devices.read_device(services, organization, device_id)
    known = await command_definitions.list_definitions(services, organization, device.model.id, DEFINITIONS)
    chosen = form.value("command", query.command or "")
    definition = next((one for one in known.items if one.name == chosen), None)
    released = []
    if definition is not None and definition.needs_file:
        query_of_files = FilesQuery(status="released", per_page=100)
        released = (await files.list_files(services, organization, query_of_files)).items
    values = {
        "form": form,
        "asked": query,
        "definitions": [one for one in known.items if one.active],
        "definition": definition,
        "released": [(file.id, f"{file.name} {file.version or ''}") for file in released],
        "statuses": [(one, one.replace("_", " ")) for one in get_args(Status)],
        "commands": await commands.list_commands(services, organization, device_id, query),
    }
    return await shown(services, organization, device_id, "commands", values)


@page("POST", f"{PATH}/commands", permission=Permission.DEVELOP, shown_by=list_commands)
async def send_command(services: Services, fleet: FleetScope, device_id: UUID, body: Sending) -> Response:
    """Send a command."""
    organization = await fleet.over(services, device_id)
    device = await devices.read_device(services, organization, device_id)
    known = await command_definitions.list_definitions(services, organization, device.model.id, DEFINITIONS)
    definition = next((one for one in known.items if one.name == body.command), None)
    sent = NewCommand(
        command=body.command,
        extra_params={} if definition is None else _parameters(definition, body.extra_params),
        file_id=body.file_id,
        scheduled_at=body.scheduled_at,
    )
    command: Command = await commands.send_command(services, organization, device_id, sent)
    said = f"{command.friendly_name} is {'planned' if command.scheduled_at else 'waiting for the device'}"
    return redirect(services, "/devices", device_id, "commands", said=said)


@page("POST", f"{PATH}/commands/{{command_id}}/cancel", permission=Permission.DEVELOP)
async def cancel_command(services: Services, fleet: FleetScope, device_id: UUID, command_id: UUID) -> Response:
    """Cancel a command that the device has not begun."""
    organization = await fleet.over(services, device_id)
    command = await commands.cancel_command(services, organization, device_id, command_id)
    return redirect(services, "/devices", device_id, "commands", said=f"{command.friendly_name} was cancelled")


def _parameters(definition: CommandDefinition, texts: dict[str, str]) -> dict[str, Any]:
    """What was typed, as the fields of the definition have it; an empty field is absent."""
    fields = {one.name: one for one in definition.fields}
    return {
        name: _value(fields[name], text) if name in fields else text for name, text in texts.items() if text.strip()
    }


def _value(known: CommandField, text: str) -> Any:
    """What is no number stays a text, which the API refuses with a sentence."""
    if known.type == "boolean":
        return text == "true"
    if known.type == "string":
        return text
    try:
        return int(text) if known.type == "integer" else float(text)
    except ValueError:
        return text


PAGES = (list_commands, send_command, cancel_command)
