"""Organizations and their projects."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_tokens import PageQuery
from gateway.api.principals import Principal
from gateway.api.scopes import NOT_FOUND, OrganizationScope, ProjectScope
from gateway.api.validation import Name
from gateway.permissions import Permission
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.tenants import organizations, projects, visible_projects
from gateway.stores.tenants.visible_projects import VisibleProject
from schemas.ids import uuid_of

PREFIX = "organizations/"


class Organization(Struct, rename="camel"):
    """An organization in which the caller has a role."""

    name: str
    display_name: str


class Organizations(Struct, rename="camel"):
    """All of them."""

    organizations: list[Organization]
    next_page_token: str


class V2Project(Struct, rename="camel"):
    """A project in which the caller has a role. `inventory` is for clients that ask for it; here none is one."""

    name: str
    display_name: str
    inventory: bool
    organization: str
    organization_display_name: str
    sensor_count: int
    cloud_connector_count: int


class Projects(Struct, rename="camel"):
    """Part of a list."""

    projects: list[V2Project]
    next_page_token: str


class ProjectsQuery(PageQuery, kw_only=True):
    """`organization` is `organizations/<id>`; `query` is part of the display name."""

    organization: str = ""
    query: Annotated[str, Meta(max_length=255)] = ""


class NewProject(Struct, rename="camel"):
    """A project to make in an organization (`organizations/<id>`)."""

    organization: str
    display_name: Name


class ProjectChange(Struct, rename="camel"):
    """What changes; absent members stay."""

    display_name: Name | None = None


def _shown(project: VisibleProject) -> V2Project:
    return V2Project(
        name=f"projects/{project.id}",
        display_name=project.name,
        inventory=False,
        organization=f"{PREFIX}{project.organization_id}",
        organization_display_name=project.organization_name,
        sensor_count=project.devices,
        cloud_connector_count=0,
    )


@endpoint("GET", "/v2/organizations", caller=SERVICE_ACCOUNT)
async def list_organizations(services: Services, account: Principal, query: PageQuery) -> Organizations:
    """List the organizations in which the caller has a role."""
    found = await visible_projects.organizations(services.postgres, {grant.organization_id for grant in account.grants})
    listed = [Organization(f"{PREFIX}{organization_id}", name) for organization_id, name in found]
    return Organizations(*page_tokens.part(listed, query, lambda organization: organization.name))


@endpoint("GET", "/v2/organizations/{organization}", caller=SERVICE_ACCOUNT, permission=Permission.BELONG)
async def read_organization(services: Services, organization: OrganizationScope) -> Organization:
    """Read one organization."""
    found = await organizations.read(services.postgres, organization.id)
    return Organization(f"{PREFIX}{found.id}", found.name)


@endpoint("GET", "/v2/projects", caller=SERVICE_ACCOUNT)
async def list_projects(services: Services, account: Principal, query: ProjectsQuery) -> Projects:
    """List the projects in which the caller has a role, all of an organization for its administrators."""
    found = await visible_projects.listed(
        services.postgres,
        whole={grant.organization_id for grant in account.grants if grant.project_id is None},
        single={grant.project_id for grant in account.grants if grant.project_id is not None},
        organization=query.organization.removeprefix(PREFIX),
        part=query.query,
        after=query.page_token,
        limit=query.page_size + 1,
    )
    page, token = page_tokens.cut(found, query.page_size, lambda project: str(project.id))
    return Projects([_shown(project) for project in page], token)


@endpoint(
    "POST",
    "/v2/projects",
    caller=SERVICE_ACCOUNT,
    errors={403: "Only administrators of an organization make projects.", 404: "There is no such organization."},
)
async def create_project(services: Services, account: Principal, body: NewProject) -> V2Project:
    """Make a project."""
    scope = OrganizationScope.of(account, uuid_of(body.organization.removeprefix(PREFIX)), Permission.ORGANIZE)
    made = await projects.create(services.postgres, scope.id, body.display_name)
    return await _read(services, made.id)


@endpoint("GET", "/v2/projects/{project}", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def read_project(services: Services, project: ProjectScope) -> V2Project:
    """Read one project."""
    return await _read(services, project.id)


@endpoint("PATCH", "/v2/projects/{project}", caller=SERVICE_ACCOUNT, permission=Permission.ADMINISTER)
async def update_project(services: Services, project: ProjectScope, body: ProjectChange) -> V2Project:
    """Rename a project."""
    if body.display_name is not None:
        await projects.rename(services.postgres, project.organization_id, project.id, body.display_name)
    return await _read(services, project.id)


@endpoint(
    "DELETE",
    "/v2/projects/{project}",
    caller=SERVICE_ACCOUNT,
    permission=Permission.ADMINISTER,
    errors={400: "It is not empty."},
)
async def delete_project(services: Services, project: ProjectScope) -> dict[str, Any]:
    """Delete a project that has neither devices nor spaces."""
    async with services.postgres.acquire() as connection:
        await projects.delete(connection, project.organization_id, project.id, project.principal)
    return {}


async def _read(services: Services, project_id: UUID) -> V2Project:
    found = await visible_projects.read(services.postgres, project_id)
    if found is None:
        raise NotFound(NOT_FOUND)
    return _shown(found)


ENDPOINTS: tuple[Endpoint, ...] = (
    list_organizations,
    read_organization,
    list_projects,
    create_project,
    read_project,
    update_project,
    delete_project,
)
