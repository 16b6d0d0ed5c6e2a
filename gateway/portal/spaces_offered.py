"""The spaces that a person may choose from, in a form."""

from gateway.api.scopes import FleetScope
from gateway.organization import spaces
from gateway.organization.spaces import SpacesQuery
from gateway.services import Services

OFFERED = 100
"""Of each project."""


async def options(services: Services, fleet: FleetScope) -> list[tuple[str, str]]:
    """Ids and paths, of the projects that the person may do this in."""
    offered, _ = await found(services, fleet)
    return offered


async def found(services: Services, fleet: FleetScope, part: str = "") -> tuple[list[tuple[str, str]], bool]:
    """Likewise those with this in their path, and whether there are more."""
    offered, there_are_more = [], False
    for project_id in fleet.project_ids or (None,):
        query = SpacesQuery(project_id=project_id, path_includes=part or None, per_page=OFFERED)
        listed = await spaces.list_spaces(services, fleet.organization, query)
        offered += [(str(space.id), space.full_path) for space in listed.items]
        there_are_more |= listed.has_next_page
    return offered, there_are_more
