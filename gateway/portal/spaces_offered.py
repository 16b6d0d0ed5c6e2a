"""The spaces that a person may choose from, in a form."""

from gateway.api.scopes import FleetScope, OrganizationScope
from gateway.organization import spaces
from gateway.organization.spaces import SpacesQuery
from gateway.services import Services

OFFERED = 100
"""Of each project."""


async def options(services: Services, fleet: FleetScope) -> list[tuple[str, str]]:
    """Ids and paths, of the projects that the person may do this in."""
    organization = OrganizationScope(fleet.id, fleet.principal)
    offered = []
    for project_id in fleet.project_ids or (None,):
        query = SpacesQuery(project_id=project_id, per_page=OFFERED)
        found = await spaces.list_spaces(services, organization, query)
        offered += [(str(space.id), space.full_path) for space in found.items]
    return offered
