"""Device models of the organization as vendor."""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Name
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores import models
from gateway.stores.commands import definitions
from gateway.stores.commands.definitions import CommandDefinition
from gateway.stores.devices import reported_keys
from gateway.stores.devices.reported_keys import ValueType
from gateway.stores.models import GENERIC, Model
from schemas.bounds import OFFLINE_THRESHOLD_S, RATE_LIMIT, STATE_BYTES, STATE_KEYS
from schemas.license_signatures import Algorithm

OfflineThreshold = Annotated[
    int, Meta(ge=OFFLINE_THRESHOLD_S.least, le=OFFLINE_THRESHOLD_S.most, description="Seconds of silence.")
]
RateLimit = Annotated[int, Meta(ge=RATE_LIMIT.least, le=RATE_LIMIT.most, description="Calls in 30 s.")]
StateKeys = Annotated[int, Meta(ge=STATE_KEYS.least, le=STATE_KEYS.most, description="Keys that a state holds.")]
StateBytes = Annotated[
    int, Meta(ge=STATE_BYTES.least, le=STATE_BYTES.most, description="Bytes of JSON that a state holds.")
]
COMMANDS_MAX = 100
"""Shown beside a model in the list; all are below the model."""
PARAMETERS_MAX = 100
"""Shown beside a model in the list: all that it maps, and so many at most with others."""
DeviceType = Annotated[str, Meta(min_length=1, max_length=64, description="temperature, touch, …")]
ProductNumber = Annotated[str, Meta(max_length=64)]
EventMappings = Annotated[
    dict[Name, Name], Meta(description="Telemetry key → event type, or member of one, such as temperature.")
]


class ModelsQuery(PageQuery, kw_only=True):
    """Which models: with `search` in their vendor or name, in any case."""

    search: Name | None = None


class ModelParameter(Struct):
    """A telemetry key of a model: what its newest devices report of it, and the event that is made from it."""

    name: str
    type: ValueType | None
    event: str | None


class ListedModel(Model, kw_only=True):
    """A model, the telemetry keys that it maps or that its newest devices report, and the commands that its devices
    understand: 100 at most of each, but for what it maps.
    """

    parameters: list[ModelParameter]
    commands: list[CommandDefinition]


class NewModel(Struct, kw_only=True):
    """A device model."""

    vendor: Name
    name: Name
    authentication: models.Authentication = "mac_sn"
    offline_threshold_s: OfflineThreshold = OFFLINE_THRESHOLD_S.default
    rate_limit: RateLimit = RATE_LIMIT.default
    state_keys_max: StateKeys | None = None
    state_bytes_max: StateBytes | None = None
    device_type: DeviceType = GENERIC
    product_number: ProductNumber = ""
    event_mappings: EventMappings = {}
    license_algorithm: Algorithm = "rsa"


class ModelChange(Struct, kw_only=True):
    """What changes of a model; members that are absent stay. How its devices authenticate is fixed."""

    vendor: Name | None = None
    name: Name | None = None
    offline_threshold_s: OfflineThreshold | None = None
    rate_limit: RateLimit | None = None
    state_keys_max: StateKeys | None = None
    state_bytes_max: StateBytes | None = None
    device_type: DeviceType | None = None
    product_number: ProductNumber | None = None
    event_mappings: EventMappings | None = None
    license_algorithm: Algorithm | None = None


@endpoint("POST", "/core/v1/organization/models", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, status=201)
async def create_model(services: Services, organization: OrganizationScope, body: NewModel) -> Model:
    """Create a device model."""
    return await models.create(services.postgres, organization.id, **msgspec.structs.asdict(body))


@endpoint("GET", "/core/v1/organization/models", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_models(services: Services, organization: OrganizationScope, query: ModelsQuery) -> Page[ListedModel]:
    """List the organization's own models by name, with their telemetry keys and with their commands."""
    rows = await models.listed(services.postgres, organization.id, *paging.slice_of(query), search=query.search)
    found = paging.cut(rows, query.page, query.per_page)
    model_ids = [model.id for model in found.items]
    commands = await definitions.of_models(services.postgres, model_ids, COMMANDS_MAX)
    reported = await reported_keys.of_models(services.postgres, model_ids)
    items = [
        ListedModel(
            **msgspec.structs.asdict(model),
            parameters=_parameters(model.event_mappings, reported.get(model.id, {})),
            commands=commands.get(model.id, []),
        )
        for model in found.items
    ]
    return Page(items, found.has_next_page, found.next_page)


@endpoint(
    "GET",
    "/core/v1/organization/models/{model_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Model not found."},
)
async def read_model(services: Services, organization: OrganizationScope, model_id: UUID) -> Model:
    """Read one model."""
    return await models.read(services.postgres, organization.id, model_id)


@endpoint(
    "PATCH",
    "/core/v1/organization/models/{model_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Model not found."},
)
async def change_model(services: Services, organization: OrganizationScope, model_id: UUID, body: ModelChange) -> Model:
    """Change a model; a new rate limit reaches its devices within seconds, a new mapping counts at once."""
    async with services.postgres.acquire() as connection, connection.transaction():
        change = msgspec.structs.asdict(body)
        return await models.update(connection, organization.id, model_id, **change)


@endpoint(
    "DELETE",
    "/core/v1/organization/models/{model_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Model not found.", 422: "It still has devices."},
)
async def delete_model(services: Services, organization: OrganizationScope, model_id: UUID) -> Success:
    """Delete a model that no device was registered with; its hardware keys and commands go with it."""
    await models.delete(services.postgres, organization.id, model_id)
    return Success()


def _parameters(mapped: Mapping[str, str], reported: Mapping[str, ValueType]) -> list[ModelParameter]:
    """All keys that are mapped, and of the others as many as there is room for."""
    others = [name for name in sorted(reported) if name not in mapped]
    names = sorted([*mapped, *others[: max(0, PARAMETERS_MAX - len(mapped))]])
    return [ModelParameter(name, reported.get(name), mapped.get(name)) for name in names]


ENDPOINTS = (create_model, list_models, read_model, change_model, delete_model)
