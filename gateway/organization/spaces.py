"""The tree of spaces in a project."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import NAME_CHARACTERS_MAX, Latitude, Longitude, Name, check_place
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.tenants import projects, spaces
from gateway.stores.tenants.spaces import DEPTH_MAX, PATH_BYTES_MAX, Space
from schemas.sentences import matching

SpaceName = Annotated[str, matching(r"^[^/]*$", "must not hold a slash", min_length=1, max_length=NAME_CHARACTERS_MAX)]


class SpacesQuery(PageQuery, kw_only=True):
    """Which spaces: those of one project, or all."""

    project_id: UUID | None = None


class NewSpace(Struct, kw_only=True):
    """A place in a project; without `parent_id` at the root of its tree."""

    project_id: UUID
    name: SpaceName
    parent_id: UUID | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    location_name: Name | None = None
    time_zone: Name = "UTC"
    temperature_units: spaces.TemperatureUnits = "celsius"
    maintenance: bool = False


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


class Path(Struct):
    """Names from the root down, as a list or joined by `/`."""

    project_id: UUID
    path: (
        Annotated[list[SpaceName], Meta(min_length=1, max_length=DEPTH_MAX)]
        | Annotated[str, Meta(min_length=1, max_length=PATH_BYTES_MAX)]
    )


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
    async with services.postgres.acquire() as connection:
        return await spaces.create(connection, organization.id, **msgspec.structs.asdict(body))


@endpoint(
    "POST",
    "/core/v1/organization/spaces/find_or_create",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Project not found."},
)
async def find_or_create_space(services: Services, organization: OrganizationScope, body: Path) -> Space:
    """The space at a path; it and what is missing above it are created."""
    names = body.path
    if isinstance(names, str):
        try:
            names = msgspec.convert(names.split("/"), list[SpaceName])
        except msgspec.ValidationError:
            raise DoesNotFit("Path: each name between two / must have 1 to 255 characters") from None
    async with services.postgres.acquire() as connection:
        return await spaces.find_or_create(connection, organization.id, body.project_id, names)


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

    async def read(window: Window) -> list[Space]:
        after = window.after
        return await spaces.page(
            services.postgres,
            owner,
            query.project_id,
            after=None if after is None else (str(after[0]), str(after[1])),
            offset=window.offset,
            limit=window.limit,
        )

    return await paging.read_page(
        services,
        ("spaces", owner, query.project_id),
        query.page,
        query.per_page,
        read,
        boundary=lambda space: [str(space.project_id), space.full_path],
    )


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


@endpoint(
    "PATCH",
    "/core/v1/organization/spaces/{space_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Space not found."},
)
async def change_space(services: Services, organization: OrganizationScope, space_id: UUID, body: SpaceChange) -> Space:
    """Change a space; a new name or parent changes the paths of all below it. Its devices are told."""
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    async with change(services) as changed:
        was = await spaces.lock(changed.connection, organization.id, space_id)
        space = msgspec.structs.replace(was, **changes)
        check_place(space.latitude, space.longitude, space.time_zone)
        await spaces.update(changed, was, space)
    return space


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


ENDPOINTS = (
    create_space,
    find_or_create_space,
    list_spaces,
    read_space,
    change_space,
    delete_space,
)
