"""Devices of projects: list and get, with what they reported last."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.principals import Principal
from gateway.api.scopes import ProjectScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound
from gateway.services import Services
from gateway.stores.devices import project_view
from gateway.stores.devices.project_view import Filters, Order, ProjectDevice
from gateway.v2.any_project import ANY_PROJECT, readable
from gateway.v2.names import DEVICE_UNKNOWN, device_in, label_filter
from schemas import ids, rendering, typed_events
from schemas.ids import uuid_of

PAGE_SIZE_MAX = 100
WORDS_MAX = 20
PATH_MEMBERS_MAX = 8

SortPosition = tuple[page_tokens.JsonText | None, UUID]


class V2Device(Struct, rename="camel"):
    """A device. `reported` holds the newest data of each event type, null where it never told any."""

    name: str
    type: str
    product_number: str
    labels: dict[str, str]
    reported: dict[str, Any]


class Devices(Struct, rename="camel"):
    """Part of a list."""

    devices: list[V2Device]
    next_page_token: str


class DevicesQuery(Struct, kw_only=True):
    """Which devices, and in which order.

    `query` are words that identifiers, type or labels contain; `label_filters` are `key=value` or `key`, all of which
    must hold; `order_by` is a path such as `reported.temperature.value`, with `-` before it for the other way round.
    With `-` as project, `organization` says whose, and `projects` may narrow it.
    """

    query: Label = ""
    device_ids: list[str] = []
    device_types: list[Label] = []
    product_numbers: list[Label] = []
    label_filters: list[Annotated[str, Meta(max_length=520)]] = []
    order_by: Label = ""
    organization: str = ""
    projects: list[str] = []
    page_size: Annotated[int, Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE_MAX
    page_token: Annotated[str, Meta(max_length=page_tokens.TOKEN_CHARACTERS_MAX)] = ""

    def is_long(self) -> bool:
        """See `paging.PageQuery`."""
        searched = (self.query, self.device_types, self.product_numbers, self.label_filters)
        return any(searched) or self.order_by.removeprefix("-") not in ("", "name")


def words_of(query: str) -> list[str]:
    """The words of a search, in lower case. Raises DoesNotFit."""
    words = query.lower().split()
    if len(words) > WORDS_MAX:
        raise DoesNotFit(f"Query has more than {WORDS_MAX} words")
    return words


def filters_of(query: DevicesQuery) -> Filters:
    """What a query asks for. Raises DoesNotFit."""
    known = [ids.device_of_name(name.rpartition("/")[2]) for name in query.device_ids]
    return Filters(
        words=words_of(query.query),
        device_ids=[device_id for device_id in known if device_id is not None] if query.device_ids else None,
        device_types=query.device_types,
        product_numbers=query.product_numbers,
        labels=[label_filter(text) for text in query.label_filters],
    )


def order_of(text: str) -> Order:
    """What `order_by` asks for. Raises DoesNotFit."""
    path = text.removeprefix("-")
    match path.split(".", 1):
        case [""] | ["name"]:
            members: tuple[str, ...] = ()
        case ["type" | "productNumber"]:
            members = (path,)
        case ["labels", key]:
            members = ("labels", key)
        case ["reported", rest] if 2 <= rest.count(".") + 1 <= PATH_MEMBERS_MAX:
            members = ("reported", *rest.split("."))
        case _:
            raise DoesNotFit("Order by must be name, type, productNumber, labels.<key> or reported.<type>.<member>")
    return Order(members, text.startswith("-"))


def shown(device: ProjectDevice, reported: dict[str, msgspec.Raw]) -> V2Device:
    """A device as clients see it, with a place for every event that its type emits."""
    known = typed_events.emits(device.device_type) or ()
    return V2Device(
        name=rendering.device_path(device.project_id, device.id),
        type=device.device_type,
        product_number=device.product_number,
        labels=device.labels,
        reported={**dict.fromkeys(map(str, known)), **reported},
    )


async def read_page(
    services: Services, project_ids: list[UUID], query: DevicesQuery, filters: Filters, order: Order
) -> Devices:
    """One page of a list."""
    after = page_tokens.unseal((query.order_by,), query.page_token, SortPosition)
    async with (
        services.postgres.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        part = await project_view.page(connection, project_ids, filters, order, after, query.page_size + 1)
    items = part.devices[: query.page_size]
    reported = await project_view.reported_in_list(services.postgres, services.shards, [device.id for device in items])
    place: list[Any] = [] if part.up_to is None else [None, part.up_to]
    if len(part.devices) > len(items):
        place = [items[-1].sort_key, items[-1].id]
    token = page_tokens.seal((query.order_by,), place) if place else ""
    return Devices([shown(device, reported[device.id]) for device in items], token)


@endpoint(
    "GET",
    "/v2/projects/{project}/devices",
    caller=SERVICE_ACCOUNT,
    errors={404: "There is no such project, or not for the caller."},
)
async def list_devices(services: Services, account: Principal, project: str, query: DevicesQuery) -> Devices:
    """List the devices of a project, or with `-` of all projects of an organization that the caller may read."""
    if project == ANY_PROJECT:
        project_ids = await readable(services, account, query.organization, query.projects)
    else:
        project_ids = [(await ProjectScope.of(services, account, uuid_of(project), Permission.READ)).id]
    return await read_page(services, project_ids, query, filters_of(query), order_of(query.order_by))


@endpoint("GET", "/v2/projects/{project}/devices/{device}", caller=SERVICE_ACCOUNT, errors={404: "Device not found."})
async def read_device(services: Services, account: Principal, project: str, device: str) -> V2Device:
    """Read one device; with `-` as project, wherever the caller may read it."""
    if project != ANY_PROJECT:
        scope = await ProjectScope.of(services, account, uuid_of(project), Permission.READ)
        found = await device_in(services, device, scope.id)
    else:
        found = await device_in(services, device)
        try:
            await ProjectScope.of(services, account, found.project_id, Permission.READ)
        except NotFound:
            raise NotFound(DEVICE_UNKNOWN) from None
    return shown(found, (await project_view.reported(services.postgres, services.shards, [found.id]))[found.id])


ENDPOINTS: tuple[Endpoint, ...] = (list_devices, read_device)
