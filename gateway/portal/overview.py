"""How the fleet is, at a glance; each number leads to its list."""

from datetime import timedelta
from typing import Literal
from uuid import UUID

from msgspec import Struct

from gateway.api.page_tokens import PageQuery as TokenQuery
from gateway.api.paging import PER_PAGE_MAX
from gateway.api.scopes import FleetScope, OrganizationScope, ProjectScope
from gateway.organization import cloud_connectors, incidents, rollouts
from gateway.organization import fleet as fleets
from gateway.organization.cloud_connectors import ConnectorsQuery
from gateway.organization.incidents import IncidentsQuery
from gateway.organization.rollouts import RolloutsQuery
from gateway.permissions import Permission
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services
from gateway.stores.connectors.cloud_connectors import CloudConnector
from gateway.stores.rollouts.rollout_view import RolloutSummary
from gateway.stores.tenants import projects
from gateway.v2 import data_connectors

NEWEST = 8
INCIDENTS_SINCE = timedelta(days=365)
PROJECTS_MAX = 20
"""Projects whose data connectors are looked at; others are in the list of connectors."""


class OverviewQuery(Struct, kw_only=True):
    """`counted` waits until the fleet is counted, which a whole page must not."""

    counted: bool = False


class Attention(Struct, frozen=True):
    """A connector that does not work, or waits for a person."""

    kind: Literal["data", "cloud"]
    id: str
    name: str
    project_id: UUID
    status: str
    text: str
    since: str | None = None


@page("GET", "/overview", permission=Permission.READ)
async def overview(services: Services, fleet: FleetScope, query: OverviewQuery) -> View:
    """The overview, or the counts on it."""
    counts = await fleets.counts_of(services, fleet.id, fleet.project_ids, wait=query.counted)
    if query.counted:
        return View("overview_counts.html", {"counts": counts})
    since = services.clock() - INCIDENTS_SINCE
    newest = IncidentsQuery(since=since.isoformat(), status="active", per_page=NEWEST)
    shown = await incidents.list_incidents(services, fleet, newest)
    clouds = (await cloud_connectors.list_connectors(services, fleet, ConnectorsQuery(per_page=PER_PAGE_MAX))).items
    values = {
        "counts": counts,
        "incidents": shown,
        "attention": [*(await _failing(services, fleet)), *filter(None, map(_trouble, clouds))],
        "held": [one for one in clouds if one.held is not None],
        "rollouts": await _under_way(services, fleet.organization),
    }
    return View("overview.html", values)


def _trouble(connector: CloudConnector) -> Attention | None:
    text = connector.error or connector.telemetry_error
    if connector.status == "Unauthenticated":
        text = "Nobody has entered the vendor's credentials yet"
    if text is None:
        return None
    return Attention("cloud", connector.id, connector.name, connector.project_id, connector.status, text)


async def _failing(services: Services, fleet: FleetScope) -> list[Attention]:
    found = []
    project_ids = await projects.ids_of(services.postgres, fleet.id) if fleet.project_ids is None else fleet.project_ids
    for project_id in project_ids[:PROJECTS_MAX]:
        scope = ProjectScope(project_id, fleet.principal, fleet.id)
        listed = await data_connectors.list_connectors(services, scope, TokenQuery(page_size=100))
        for one in listed.data_connectors:
            connector_id = one.name.rpartition("/")[2]
            if one.status == "SYSTEM_DISABLED":
                text = "Disabled: it failed for too long"
            elif one.failing_since is not None:
                text = "Its receiver refuses or does not answer"
            else:
                continue
            found.append(
                Attention("data", connector_id, one.display_name, project_id, one.status, text, one.failing_since)
            )
    return found


async def _under_way(services: Services, organization: OrganizationScope) -> list[RolloutSummary]:
    found: list[RolloutSummary] = []
    for status in ("running", "paused"):
        query = RolloutsQuery(status=status, per_page=NEWEST)
        found += (await rollouts.list_rollouts(services, organization, query)).items
    return found


PAGES = (overview,)
