"""Lists over several projects: `-` as project stands for all of an organization that the caller may read."""

from uuid import UUID

from gateway.api.principals import Principal
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound
from gateway.services import Services
from gateway.stores.tenants import projects
from gateway.v2.names import id_of

ANY_PROJECT = "-"


async def readable(
    services: Services, account: Principal, organization: str, names: list[str] | None = None
) -> list[UUID]:
    """The projects of `organizations/<id>` that a caller may read, or of those the ones named. Raises Refusal."""
    organization_id = id_of("organizations", organization)
    if organization_id is None:
        raise DoesNotFit("Organization is required where the project is -, as organizations/<id>")
    visible = [
        project_id
        for project_id in await projects.ids_of(services.postgres, organization_id)
        if Permission.READ in account.permissions(organization_id, project_id)
    ]
    wanted = [id_of("projects", name) for name in names or ()] or visible
    chosen = [project_id for project_id in wanted if project_id in visible]
    if not chosen or len(chosen) < len(wanted):
        raise NotFound(projects.UNKNOWN)
    return [project_id for project_id in chosen if project_id is not None]
