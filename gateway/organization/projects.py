"""The organisation's projects."""

from uuid import UUID

from gateway.api import paging
from gateway.api.callers import OrganizationCaller
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.validation import Named
from gateway.services import Services
from gateway.stores.tenants import projects
from gateway.stores.tenants.projects import Project


@endpoint("POST", "/core/v1/organization/projects", status=201)
async def create_project(services: Services, organization: OrganizationCaller, body: Named) -> Project:
    """Create a project."""
    return await projects.create(services.postgres, organization.organization_id, body.name)


@endpoint("GET", "/core/v1/organization/projects")
async def list_projects(services: Services, organization: OrganizationCaller, query: PageQuery) -> Page[Project]:
    """List the projects by name."""
    rows = await projects.listed(services.postgres, organization.organization_id, *paging.slice_of(query))
    return paging.cut(rows, query.page, query.per_page)


@endpoint("GET", "/core/v1/organization/projects/{project_id}", errors={404: "Project not found."})
async def read_project(services: Services, organization: OrganizationCaller, project_id: UUID) -> Project:
    """Read one project."""
    return await projects.read(services.postgres, organization.organization_id, project_id)


@endpoint("PATCH", "/core/v1/organization/projects/{project_id}", errors={404: "Project not found."})
async def rename_project(
    services: Services, organization: OrganizationCaller, project_id: UUID, body: Named
) -> Project:
    """Rename a project."""
    return await projects.rename(services.postgres, organization.organization_id, project_id, body.name)


@endpoint(
    "DELETE",
    "/core/v1/organization/projects/{project_id}",
    errors={404: "Project not found.", 422: "It still has devices or spaces."},
)
async def delete_project(services: Services, organization: OrganizationCaller, project_id: UUID) -> Success:
    """Delete an empty project."""
    async with services.postgres.acquire() as connection:
        await projects.delete(connection, organization.organization_id, project_id)
    return Success()


ENDPOINTS = (create_project, list_projects, read_project, rename_project, delete_project)
