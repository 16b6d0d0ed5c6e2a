"""The tree of spaces in a project."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import (
    DETAILS_BYTES_MAX,
    NAME_CHARACTERS_MAX,
    Label,
    Latitude,
    Longitude,
    Name,
    check_depth,
    check_place,
)
from gateway.organization.fleet import devices_below
from gateway.organization.histories import Moment, moment_of
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.tenants import projects, space_tree, spaces
from gateway.stores.tenants.spaces import DEPTH_MAX, PATH_BYTES_MAX, Space
from schemas.postgres import Connection
from schemas.sentences import matching

SpaceName = Annotated[str, matching(r"^[^/]*$", "must not hold a slash", min_length=1, max_length=NAME_CHARACTERS_MAX)]


SPACE = "/core/v1/organization/spaces/{space_id}"
UNKNOWN = {404: "Space not found."}
Config = dict[str, Any]
CHILDREN_MAX = 100


class SpacesQuery(PageQuery, kw_only=True):
    """Which spaces: those of one project, with this id, with this name, with this in their full path, right below one
    of them, made in a time; or all.
    """

    project_id: UUID | None = None
    id: UUID | None = None
    name: Label | None = None
    path_includes: Annotated[str, Meta(max_length=PATH_BYTES_MAX)] | None = None
    parent_id: UUID | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None

    def is_long(self) -> bool:
        """So is a search, which may have to look at all spaces."""
        searches = (self.name, self.path_includes, self.parent_id, self.created_after, self.created_before)
        return super().is_long() or any(one is not None for one in searches)


class NewSpace(Struct, kw_only=True):
    """A place in a project; without `parent_id` at the root of its tree.

    The project is the parent's, or the organization's only one, where none is named. `config` is for the owner's use.
    """

    project_id: UUID | None = None
    name: SpaceName
    parent_id: UUID | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    location_name: Name | None = None
    time_zone: Name = "UTC"
    temperature_units: spaces.TemperatureUnits = "celsius"
    maintenance: bool = False
    config: Config = {}


class SpaceChange(Struct, kw_only=True):
    """What changes of a place; members that are absent stay, a null `parent_id` moves it to the root."""

    name: SpaceName | UnsetType = UNSET
    parent_id: UUID | UnsetType | None = UNSET
    latitude: Latitude | UnsetType | None = UNSET
    longitude: Longitude | UnsetType | None = UNSET
    location_name: Name | UnsetType | None = UNSET
    time_zone: Name | UnsetType = UNSET
    temperature_units: spaces.TemperatureUnits | UnsetType = UNSET
    maintenance: bool | UnsetType = UNSET
    config: Config | UnsetType = UNSET


JoinedNames = Annotated[str, Meta(min_length=1, max_length=PATH_BYTES_MAX)]


class Path(Struct, kw_only=True):
    """Names from the root down, as a list (`path`) or joined by `/` (`path` or `name`).

    With `parent_id` they begin below that space; the project is its, or the organization's only one, where none is
    named. `config` is that of the space if it is made; one that is found keeps its own.
    """

    project_id: UUID | None = None
    parent_id: UUID | None = None
    path: Annotated[list[SpaceName], Meta(min_length=1, max_length=DEPTH_MAX)] | JoinedNames | None = None
    name: JoinedNames | None = None
    config: Config = {}


@endpoint(
    "POST",
    "/core/v1/organization/spaces",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Project not found."},
)
async def create_space(services: Services, organization: OrganizationScope, body: NewSpace) -> Space:
    """Create a space."""
    check_place(body.latitude, body.longitude, body.time_zone)
    _check_config(body.config)
    async with services.postgres.acquire() as connection:
        project_id = await _project(connection, organization.id, body.project_id, body.parent_id)
        made = msgspec.structs.asdict(body) | {"project_id": project_id}
        return await spaces.create(connection, organization.id, **made)


@endpoint(
    "POST",
    "/core/v1/organization/spaces/find_or_create",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Project not found."},
)
async def find_or_create_space(services: Services, organization: OrganizationScope, body: Path) -> Space:
    """The space at a path; it and what is missing above it are created."""
    if (body.path is None) == (body.name is None):
        raise DoesNotFit("Give either path or name")
    _check_config(body.config)
    member, names = ("Name", body.name) if body.path is None else ("Path", body.path)
    if isinstance(names, str):
        try:
            names = msgspec.convert(names.split("/"), list[SpaceName])
        except msgspec.ValidationError:
            raise DoesNotFit(f"{member}: each name between two / must have 1 to 255 characters") from None
    async with services.postgres.acquire() as connection:
        project_id = await _project(connection, organization.id, body.project_id, body.parent_id)
        above = [] if body.parent_id is None else await spaces.names_of(connection, project_id, body.parent_id)
        path = [*above, *(names or ())]
        return await spaces.find_or_create(connection, organization.id, project_id, path, config=body.config)


class SpaceNode(Struct):
    """A space in its tree. `devices` are those in it and in all below it, as counted last; null before that."""

    id: UUID
    name: str
    devices: int | None


class SpaceTree(Struct):
    """Where one is in the tree of spaces: those above it and itself, from the root down, and those right below.

    `has_more` tells that there are more below than are shown.
    """

    path: list[SpaceNode]
    children: list[SpaceNode]
    has_more: bool


class TreeQuery(Struct, kw_only=True):
    """Of which space; of none it begins at the roots."""

    space_id: UUID | None = None


@endpoint(
    "GET",
    "/core/v1/organization/spaces/tree",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Space not found."},
)
async def read_tree(services: Services, organization: OrganizationScope, query: TreeQuery) -> SpaceTree:
    """Read where a space is in its tree, with counts of devices."""
    return await spaces_around(services, organization.id, query.space_id, None)


async def spaces_around(
    services: Services, organization_id: UUID, space_id: UUID | None, project_ids: Collection[UUID] | None
) -> SpaceTree:
    """The tree around a space, in these projects or in all. Raises NotFound."""
    above = [] if space_id is None else await space_tree.path(services.postgres, organization_id, space_id)
    if project_ids is not None and any(one.project_id not in project_ids for one in above):
        raise NotFound(spaces.UNKNOWN)
    below = await space_tree.children(services.postgres, organization_id, space_id, project_ids, CHILDREN_MAX + 1)
    counted = await devices_below(services, organization_id, [one.id for one in (*above, *below)])

    def nodes(found: Sequence[Space]) -> list[SpaceNode]:
        return [SpaceNode(one.id, one.name, counted.get(one.id)) for one in found]

    return SpaceTree(nodes(above), nodes(below[:CHILDREN_MAX]), len(below) > CHILDREN_MAX)


@endpoint(
    "GET",
    "/core/v1/organization/spaces",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Project not found."},
)
async def list_spaces(services: Services, organization: OrganizationScope, query: SpacesQuery) -> Page[Space]:
    """List spaces by project and full path."""
    owner = organization.id
    if query.project_id is not None:
        await projects.read(services.postgres, owner, query.project_id)
    after_before = (_moment("Created after", query.created_after), _moment("Created before", query.created_before))

    async def read(window: Window) -> paging.Part[Space]:
        after = window.after
        async with (
            services.postgres.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            part = await space_tree.page(
                connection,
                owner,
                query.project_id,
                space_id=query.id,
                name=query.name,
                path_part=query.path_includes,
                parent_id=query.parent_id,
                created=after_before,
                after=None if after is None else (str(after[0]), str(after[1])),
                offset=window.offset,
                limit=window.limit,
            )
        return paging.Part(part.spaces, None if part.up_to is None else [str(part.up_to[0]), part.up_to[1]])

    filters = (query.project_id, query.id, query.name, query.path_includes, query.parent_id, *after_before)
    return await paging.read_part(
        services,
        ("spaces", owner, *filters),
        query.page,
        query.per_page,
        read,
        boundary=lambda space: [str(space.project_id), space.full_path],
    )


def _moment(member: str, text: str | None) -> datetime | None:
    return None if text is None else moment_of(member, text)


@endpoint(
    "GET",
    "/core/v1/organization/spaces/{space_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Space not found."},
)
async def read_space(services: Services, organization: OrganizationScope, space_id: UUID) -> Space:
    """Read one space."""
    return await spaces.read(services.postgres, organization.id, space_id)


@endpoint("PATCH", SPACE, caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=UNKNOWN)
async def change_space(services: Services, organization: OrganizationScope, space_id: UUID, body: SpaceChange) -> Space:
    """Change a space; a new name or parent changes the paths of all below it. Its devices are told."""
    return await _change(services, organization, space_id, body)


@endpoint("PUT", SPACE, caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=UNKNOWN)
async def put_space(services: Services, organization: OrganizationScope, space_id: UUID, body: SpaceChange) -> Space:
    """Change a space, as PATCH does: members that are absent stay."""
    return await _change(services, organization, space_id, body)


@endpoint(
    "DELETE",
    "/core/v1/organization/spaces/{space_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Space not found.", 422: "It still has devices or spaces in it."},
)
async def delete_space(services: Services, organization: OrganizationScope, space_id: UUID) -> Success:
    """Delete an empty space."""
    async with services.postgres.acquire() as connection:
        await spaces.delete(connection, organization.id, space_id)
    return Success()


async def _change(services: Services, organization: OrganizationScope, space_id: UUID, body: SpaceChange) -> Space:
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    _check_config(changes.get("config"))
    async with change(services) as changed:
        was = await spaces.lock(changed.connection, organization.id, space_id)
        space = msgspec.structs.replace(was, **changes)
        check_place(space.latitude, space.longitude, space.time_zone)
        await spaces.update(changed, was, space)
    return space


async def _project(
    connection: Connection, organization_id: UUID, project_id: UUID | None, parent_id: UUID | None
) -> UUID:
    """Where a space is to be: in the project that is named, its parent's, or the only one. Raises DoesNotFit."""
    if project_id is not None:
        return project_id
    if parent_id is not None:
        return await spaces.project_of(connection, organization_id, parent_id)
    known = await projects.ids_of(connection, organization_id)
    if len(known) != 1:
        raise DoesNotFit(f"Project id can't be blank: the organization has {len(known)} projects")
    return known[0]


def _check_config(config: Config | None) -> None:
    check_depth("Config", config)
    if config and len(msgspec.json.encode(config)) > DETAILS_BYTES_MAX:
        raise DoesNotFit(f"Config must be at most {DETAILS_BYTES_MAX} bytes of JSON")


ENDPOINTS = (
    create_space,
    find_or_create_space,
    list_spaces,
    read_tree,
    read_space,
    change_space,
    put_space,
    delete_space,
)
