"""The commands that the devices of the organization's models understand."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Label, Name, Text
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores import models
from gateway.stores.commands import definitions
from gateway.stores.commands.definitions import CommandDefinition, CommandField, FieldType
from schemas.bounds import COMMAND_TIMEOUT_S

FIELDS_MAX = 50
OPTIONS_MAX = 100

Timeout = Annotated[
    int, Meta(ge=COMMAND_TIMEOUT_S.least, le=COMMAND_TIMEOUT_S.most, description="Seconds from first delivery.")
]


class NewField(Struct):
    """A parameter of a command."""

    name: Name
    type: FieldType = "string"
    required: bool = False
    description: Text = ""
    options: Annotated[list[Name], Meta(max_length=OPTIONS_MAX, description="What may be chosen; of strings.")] = []


Fields = Annotated[list[NewField], Meta(max_length=FIELDS_MAX)]


class NewDefinition(Struct, kw_only=True):
    """A command; without a friendly name it is called by its name."""

    name: Name
    friendly_name: Label = ""
    description: Text = ""
    needs_file: bool = False
    timeout_s: Timeout = COMMAND_TIMEOUT_S.default
    fields: Fields = field(default_factory=list)
    active: bool = True
    several: bool = True
    show_in_panel: bool = True
    ask_again: bool = False


class DefinitionChange(Struct, kw_only=True):
    """What changes of a command; members that are absent stay."""

    name: Name | UnsetType = UNSET
    friendly_name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    needs_file: bool | UnsetType = UNSET
    timeout_s: Timeout | UnsetType = UNSET
    fields: Fields | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    several: bool | UnsetType = UNSET
    show_in_panel: bool | UnsetType = UNSET
    ask_again: bool | UnsetType = UNSET


@endpoint(
    "POST",
    "/core/v1/organization/models/{model_id}/commands",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Model not found."},
)
async def create_definition(
    services: Services, organization: OrganizationScope, model_id: UUID, body: NewDefinition
) -> CommandDefinition:
    """Define a command of a model."""
    await models.read(services.postgres, organization.id, model_id)
    given = msgspec.structs.asdict(body) | {"fields": _stored(body.fields)}
    return await definitions.add(services.postgres, model_id, **given)


@endpoint(
    "GET",
    "/core/v1/organization/models/{model_id}/commands",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Model not found."},
)
async def list_definitions(
    services: Services, organization: OrganizationScope, model_id: UUID, query: PageQuery
) -> Page[CommandDefinition]:
    """List a model's commands by name."""
    await models.read(services.postgres, organization.id, model_id)
    rows = await definitions.listed(services.postgres, model_id, *paging.slice_of(query))
    return paging.cut(rows, query.page, query.per_page)


@endpoint(
    "PATCH",
    "/core/v1/organization/models/{model_id}/commands/{definition_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Model or command not found."},
)
async def change_definition(
    services: Services, organization: OrganizationScope, model_id: UUID, definition_id: UUID, body: DefinitionChange
) -> CommandDefinition:
    """Change a command's definition; commands already sent stay as they are."""
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    if body.fields is not UNSET:
        changes["fields"] = _stored(body.fields)
    async with services.postgres.acquire() as connection, connection.transaction():
        await models.read(connection, organization.id, model_id)
        was = await definitions.lock(connection, model_id, definition_id)
        changed = msgspec.structs.replace(was, **changes)
        await definitions.replace(connection, changed)
    return changed


@endpoint(
    "DELETE",
    "/core/v1/organization/models/{model_id}/commands/{definition_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Model or command not found."},
)
async def delete_definition(
    services: Services, organization: OrganizationScope, model_id: UUID, definition_id: UUID
) -> Success:
    """Remove a command from a model; commands already sent run on."""
    await models.read(services.postgres, organization.id, model_id)
    await definitions.delete(services.postgres, model_id, definition_id)
    return Success()


def _stored(fields: list[NewField]) -> list[CommandField]:
    return [CommandField(**msgspec.structs.asdict(one)) for one in fields]


ENDPOINTS = (create_definition, list_definitions, change_definition, delete_definition)
