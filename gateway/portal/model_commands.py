"""The commands of a model, as their vendor defines them: names, fields, how long they may take, who is asked again."""

from uuid import UUID

from starlette.responses import Response

from gateway.api.paging import PageQuery
from gateway.api.scopes import MakerScope
from gateway.organization import command_definitions, models
from gateway.organization.command_definitions import DefinitionChange, NewDefinition
from gateway.permissions import Permission
from gateway.portal.forms import Form
from gateway.portal.models import ONE, PATH
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.commands.definitions import UNKNOWN, CommandDefinition

COMMANDS = ONE + "/commands"
COMMAND = COMMANDS + "/{definition_id}"


@page("GET", COMMANDS, permission=Permission.READ)
async def show_commands(
    services: Services, organization: MakerScope, model_id: UUID, query: PageQuery, form: Form
) -> View:
    """The commands of a model."""
    model = await models.read_model(services, organization, model_id)
    found = await command_definitions.list_definitions(services, organization, model_id, query)
    return View("model_commands.html", {"model": model, "commands": found, "form": form})


@page("POST", COMMANDS, permission=Permission.DEVELOP, shown_by=show_commands)
async def create_command(services: Services, organization: MakerScope, model_id: UUID, body: NewDefinition) -> Response:
    """Define a command."""
    await command_definitions.create_definition(services, organization, model_id, body)
    return redirect(services, PATH, model_id, "commands", said=f"Devices of the model may be sent {body.name}")


@page("GET", COMMAND, permission=Permission.READ)
async def show_command(
    services: Services, organization: MakerScope, model_id: UUID, definition_id: UUID, form: Form
) -> View:
    """One command."""
    model = await models.read_model(services, organization, model_id)
    command = await _defined(services, organization, model_id, definition_id)
    return View("model_command.html", {"model": model, "command": command, "form": form})


@page("POST", COMMAND, permission=Permission.DEVELOP, shown_by=show_command)
async def change_command(
    services: Services, organization: MakerScope, model_id: UUID, definition_id: UUID, body: DefinitionChange
) -> Response:
    """Change its definition."""
    changed = await command_definitions.change_definition(services, organization, model_id, definition_id, body)
    said = f"{changed.name} is changed; what was sent already stays as it was"
    return redirect(services, PATH, model_id, "commands", said=said)


@page("POST", COMMAND + "/delete", permission=Permission.DEVELOP)
async def delete_command(services: Services, organization: MakerScope, model_id: UUID, definition_id: UUID) -> Response:
    """Take it from the model."""
    await command_definitions.delete_definition(services, organization, model_id, definition_id)
    return redirect(services, PATH, model_id, "commands", said="The command is deleted; what was sent runs on")


async def _defined(
    services: Services, organization: MakerScope, model_id: UUID, definition_id: UUID
) -> CommandDefinition:
    """Raises NotFound."""
    number: int | None = 1
    while number is not None:
        asked = PageQuery(page=number, per_page=100)
        found = await command_definitions.list_definitions(services, organization, model_id, asked)
        for one in found.items:
            if one.id == definition_id:
                return one
        number = found.next_page
    raise NotFound(UNKNOWN)


PAGES = (show_commands, create_command, show_command, change_command, delete_command)
