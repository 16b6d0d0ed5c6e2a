"""Projects as those see them who have a role there: what they are called, where they are, their labels."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_tokens import PageQuery
from gateway.api.principals import Principal
from gateway.api.scopes import OrganizationScope, ProjectScope
from gateway.api.validation import Label, Latitude, Longitude, Name, check_place
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound, NotPermitted
from gateway.services import Services
from gateway.stores.devices.labels import LABELS_MAX
from gateway.stores.tenants import project_deletion, projects, visible_projects
from gateway.stores.tenants.projects import UNKNOWN, Location
from gateway.stores.tenants.visible_projects import VisibleProject
from gateway.v2 import update_masks
from gateway.v2.labels import Labels, LabelSets, Status
from gateway.v2.names import id_of
from gateway.v2.organizations import PREFIX
from gateway.v2.update_masks import UpdateQuery

RESOURCE = "organizations"
PROJECTS_MAX = 1_000
TOO_MANY_LABELS = f"A project has at most {LABELS_MAX} labels"
SETTINGS = ("display_name", "location", "labels")


class ProjectLocation(Struct, rename="camel", kw_only=True):
    """Where a project is, and its time zone by the name that the IANA database has for it."""

    latitude: Latitude | None = None
    longitude: Longitude | None = None
    time_location: Label | None = None


class V2Project(Struct, rename="camel", kw_only=True):
    """A project in which the caller has a role. `inventory` is for clients that ask for it; here none is one."""

    name: str
    display_name: str
    inventory: bool
    organization: str
    organization_display_name: str
    sensor_count: int
    cloud_connector_count: int
    location: ProjectLocation
    labels: dict[str, str]


class Projects(Struct, rename="camel"):
    """Part of a list."""

    projects: list[V2Project]
    next_page_token: str


class ProjectsQuery(PageQuery, kw_only=True):
    """`organization` is `organizations/<id>`; `query` is part of the display name."""

    organization: str = ""
    query: Annotated[str, Meta(max_length=255)] = ""

    def is_long(self) -> bool:
        """Always: the devices of each project are counted."""
        return True


class NewProject(Struct, rename="camel", kw_only=True):
    """A project to make in an organization (`organizations/<id>`)."""

    organization: str
    display_name: Name
    location: ProjectLocation | None = None
    labels: Labels = {}


class ProjectChange(Struct, rename="camel", kw_only=True):
    """What changes; absent members stay. A location changes as a whole, and so do labels."""

    display_name: Name | UnsetType | None = UNSET
    location: ProjectLocation | UnsetType | None = UNSET
    labels: Labels | UnsetType | None = UNSET
    organization: str | UnsetType | None = UNSET


class ProjectLabelUpdate(LabelSets, rename="camel", kw_only=True):
    """Which projects get and lose which labels."""

    projects: Annotated[list[str], Meta(min_length=1, max_length=PROJECTS_MAX)]


class ProjectError(Struct):
    """A project for which it was not done."""

    project: str
    status: Status


class ProjectLabelErrors(Struct, rename="camel"):
    """The projects whose labels stay as they were."""

    batch_errors: list[ProjectError]


@endpoint("GET", "/v2/projects", caller=SERVICE_ACCOUNT)
async def list_projects(services: Services, account: Principal, query: ProjectsQuery) -> Projects:
    """List the projects in which the caller has a role, all of an organization for its administrators."""
    found = await visible_projects.listed(
        services.postgres,
        whole={grant.organization_id for grant in account.grants if grant.project_id is None},
        single={grant.project_id for grant in account.grants if grant.project_id is not None},
        organization=query.organization.removeprefix(PREFIX),
        part=query.query,
        after=page_tokens.last_id(query, page_tokens.UUID_TEXT),
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
    organization_id = id_of("organizations", body.organization)
    if organization_id is None:
        raise DoesNotFit("Organization must be organizations/<id>, as GET /v2/organizations names it")
    scope = OrganizationScope.of(account, organization_id, Permission.ORGANIZE)
    made = await projects.create(services.postgres, scope.id, body.display_name, _location(body.location), body.labels)
    return await _read(services, made.id)


@endpoint("POST", "/v2/projects:batchUpdate", caller=SERVICE_ACCOUNT)
async def update_project_labels(services: Services, account: Principal, body: ProjectLabelUpdate) -> ProjectLabelErrors:
    """Add, change and remove labels of projects; those that it cannot be done for are named, all others are changed."""
    body.check()
    errors: list[ProjectError] = []
    names: dict[UUID, str] = {}
    for name in dict.fromkeys(body.projects):
        try:
            scope = await ProjectScope.of(services, account, id_of("projects", name), Permission.ADMINISTER)
            names[scope.id] = name
        except NotFound as refusal:
            errors.append(ProjectError(name, Status("NOT_FOUND", refusal.text)))
        except NotPermitted as refusal:
            errors.append(ProjectError(name, Status("PERMISSION_DENIED", refusal.text)))
    async with services.postgres.acquire() as connection, connection.transaction():
        for project_id, labels in (await projects.lock_labels(connection, names)).items():
            after = body.applied(labels)
            if len(after) > LABELS_MAX:
                errors.append(ProjectError(names[project_id], Status("INVALID_ARGUMENT", TOO_MANY_LABELS)))
            else:
                await projects.label(connection, project_id, after)
    return ProjectLabelErrors(errors)


@endpoint("GET", "/v2/projects/{project}", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def read_project(services: Services, project: ProjectScope) -> V2Project:
    """Read one project."""
    return await _read(services, project.id)


@endpoint("PATCH", "/v2/projects/{project}", caller=SERVICE_ACCOUNT, permission=Permission.ADMINISTER)
async def update_project(
    services: Services, project: ProjectScope, query: UpdateQuery, body: ProjectChange
) -> V2Project:
    """Change a project's name, location or labels."""
    if body.organization and id_of("organizations", body.organization) != project.organization_id:
        raise DoesNotFit("Organization: a project stays in its own")
    given = [name for name in SETTINGS if getattr(body, name) not in (UNSET, None)]
    changes = update_masks.chosen(query.update_mask, SETTINGS, given)
    async with services.postgres.acquire() as connection, connection.transaction():
        if "display_name" in changes:
            if not body.display_name:
                raise DoesNotFit("DisplayName can't be blank")
            await projects.rename(connection, project.organization_id, project.id, body.display_name)
        if "location" in changes:
            await projects.place(connection, project.id, _location(body.location))
        if "labels" in changes:
            await projects.label(connection, project.id, body.labels or {})
    return await _read(services, project.id)


@endpoint(
    "DELETE",
    "/v2/projects/{project}",
    caller=SERVICE_ACCOUNT,
    permission=Permission.ADMINISTER,
    errors={400: "It is not empty."},
)
async def delete_project(services: Services, project: ProjectScope) -> dict[str, Any]:
    """Delete a project that has no devices, no cloud connectors, and no spaces but `Unsorted`."""
    async with services.postgres.acquire() as connection:
        await project_deletion.delete(connection, project.organization_id, project.id, project.principal)
    return {}


def _location(given: ProjectLocation | UnsetType | None) -> Location:
    """Where a project is to be; UTC is where nobody says more. Raises DoesNotFit."""
    if not isinstance(given, ProjectLocation):
        return Location()
    time_zone = given.time_location or Location().time_zone
    check_place(given.latitude, given.longitude, time_zone, named="Location.timeLocation")
    return Location(given.latitude, given.longitude, time_zone)


def _shown(project: VisibleProject) -> V2Project:
    return V2Project(
        name=f"projects/{project.id}",
        display_name=project.name,
        inventory=False,
        organization=f"{PREFIX}{project.organization_id}",
        organization_display_name=project.organization_name,
        sensor_count=project.devices,
        cloud_connector_count=0,
        location=ProjectLocation(
            latitude=project.latitude, longitude=project.longitude, time_location=project.time_zone
        ),
        labels=project.labels,
    )


async def _read(services: Services, project_id: UUID) -> V2Project:
    found = await visible_projects.read(services.postgres, project_id)
    if found is None:
        raise NotFound(UNKNOWN)
    return _shown(found)


ENDPOINTS: tuple[Endpoint, ...] = (
    list_projects,
    create_project,
    update_project_labels,
    read_project,
    update_project,
    delete_project,
)
