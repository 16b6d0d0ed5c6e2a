"""The organization's projects."""

from uuid import UUID

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Named
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.tenants import project_deletion, projects
from gateway.stores.tenants.projects import Project


@endpoint("POST", "/core/v1/organization/projects", caller=ORGANIZATION_KEY, permission=Permission.ORGANIZE, status=201)
async def create_project(services: Services, organization: OrganizationScope, body: Named) -> Project:
    """Create a project."""
    return await projects.create(services.postgres, organization.id, body.name)


@endpoint("GET", "/core/v1/organization/projects", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_projects(services: Services, organization: OrganizationScope, query: PageQuery) -> Page[Project]:
    """List the projects by name."""
    rows = await projects.listed(services.postgres, organization.id, *paging.slice_of(query))
    return paging.cut(rows, query.page, query.per_page)


@endpoint(
    "GET",
    "/core/v1/organization/projects/{project_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Project not found."},
)
async def read_project(services: Services, organization: OrganizationScope, project_id: UUID) -> Project:
    """Read one project."""
    return await projects.read(services.postgres, organization.id, project_id)


@endpoint(
    "PATCH",
    "/core/v1/organization/projects/{project_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors={404: "Project not found."},
)
async def rename_project(services: Services, organization: OrganizationScope, project_id: UUID, body: Named) -> Project:
    """Rename a project."""
    return await projects.rename(services.postgres, organization.id, project_id, body.name)


@endpoint(
    "DELETE",
    "/core/v1/organization/projects/{project_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors={404: "Project not found.", 422: "It still has devices, spaces or cloud connectors."},
)
async def delete_project(services: Services, organization: OrganizationScope, project_id: UUID) -> Success:
    """Delete an empty project."""
    async with services.postgres.acquire() as connection:
        await project_deletion.delete(connection, organization.id, project_id, organization.principal)
    return Success()


ENDPOINTS = (create_project, list_projects, read_project, rename_project, delete_project)
