"""The data connectors that a person sees, and making one: what does not fit is told while it is typed."""

import base64
import secrets
from typing import Any
from uuid import UUID

from msgspec import Struct
from starlette.responses import Response

from gateway.api import page_tokens
from gateway.api.paging import Page, PageNumber, PageQuery
from gateway.api.scopes import FleetScope, OrganizationScope, ProjectScope
from gateway.organization import projects
from gateway.permissions import Permission
from gateway.portal.forms import DoesNotFitFields, Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services
from gateway.stores.tenants.projects import Project
from gateway.v2 import data_connectors, delivery_health
from gateway.v2.data_connector_settings import Change, DataConnector
from gateway.v2.data_connectors import Faults
from gateway.v2.delivery_health import Health
from schemas.events import EventType

PATH = "/data-connectors"
IN_PROJECT = PATH + "/{project}"
PROJECTS_SHOWN = 20
CONNECTORS = page_tokens.PageQuery()
SECRET_BYTES = 32


class ListQuery(Struct, kw_only=True):
    """The connectors of one project, or part of the list of all projects."""

    project: UUID | None = None
    page: PageNumber = 1


class OfProject(Struct):
    """The connectors of one project, each with how it goes."""

    project: Project
    connectors: list[tuple[DataConnector, Health]]
    may_change: bool


@page("GET", PATH, permission=Permission.READ)
async def show_all(services: Services, fleet: FleetScope, query: ListQuery) -> View:
    """The list, by project."""
    known = await _projects(services, fleet, query.page)
    chosen = known.items if query.project is None else [await _project(services, fleet, query.project)]
    return View(
        "data_connectors.html",
        {
            "projects": known.items,
            "project_choices": [(one.id, one.name) for one in known.items],
            "chosen": query.project,
            "page": known,
            "groups": [await _of_project(services, fleet, one) for one in chosen],
        },
    )


@page("GET", IN_PROJECT + "/new", permission=Permission.DEVELOP)
async def show_new(services: Services, project: ProjectScope, form: Form) -> View:
    """The form for a new one. It proposes a secret that every receiver's library takes."""
    proposed = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    return View("data_connector_new.html", {"project_id": project.id, "form": form, "secret": proposed, **choices()})


@page("POST", IN_PROJECT + "/check", permission=Permission.DEVELOP, audited=False)
async def check(services: Services, project: ProjectScope, body: Change) -> View:
    """What does not fit of what was typed so far."""
    return faults_shown(await data_connectors.check_new(services, project, body))


@page("POST", IN_PROJECT, permission=Permission.DEVELOP, shown_by=show_new)
async def create(services: Services, project: ProjectScope, body: Change) -> Response:
    """Make it."""
    refuse_faults(await data_connectors.check_new(services, project, body))
    made = await data_connectors.create_connector(services, project, body)
    return redirect(
        services, PATH, project.id, id_of(made.name), said="The data connector gets every event from now on"
    )


def id_of(name: str) -> str:
    """The id at the end of a connector's name."""
    return name.rpartition("/")[2]


def choices() -> dict[str, Any]:
    """What forms of data connectors let people choose from."""
    return {"event_types": [(str(one), str(one)) for one in EventType], "settings_checked": CHECKED}


CHECKED = (
    "displayName",
    "httpConfig.url",
    "httpConfig.headers",
    "httpConfig.signatureSecret",
    "events",
    "labels",
    "delivery.asymmetricSignature",
    "delivery.standardWebhooks",
    "delivery.retryWindowSeconds",
    "delivery.maxInFlight",
)
"""The settings of the form, each of which says what is wrong with it below itself."""


def faults_shown(faults: Faults) -> View:
    """What does not fit, as the parts of the form that say so."""
    return View(
        "data_connector_checks.html",
        {"faults": {fault.path: fault.error for fault in faults.faults}, "settings_checked": CHECKED},
    )


def refuse_faults(faults: Faults) -> None:
    """Raises DoesNotFitFields where there are any."""
    if faults.faults:
        raise DoesNotFitFields({fault.path if fault.path in CHECKED else "": fault.error for fault in faults.faults})


async def _projects(services: Services, fleet: FleetScope, number: int) -> Page[Project]:
    if fleet.project_ids is None:
        query = PageQuery(page=number, per_page=PROJECTS_SHOWN)
        return await projects.list_projects(services, OrganizationScope(fleet.id, fleet.principal), query)
    begin = (number - 1) * PROJECTS_SHOWN
    shown = [await _project(services, fleet, one) for one in fleet.project_ids[begin : begin + PROJECTS_SHOWN]]
    more = len(fleet.project_ids) > begin + PROJECTS_SHOWN
    return Page(shown, has_next_page=more, next_page=number + 1 if more else None)


async def _project(services: Services, fleet: FleetScope, project_id: UUID) -> Project:
    """Raises NotFound for one that is none of the fleet's."""
    await ProjectScope.of(services, fleet.principal, project_id, Permission.READ)
    return await projects.read_project(services, OrganizationScope(fleet.id, fleet.principal), project_id)


async def _of_project(services: Services, fleet: FleetScope, project: Project) -> OfProject:
    scope = ProjectScope(project.id, fleet.principal, fleet.id)
    listed = (await data_connectors.list_connectors(services, scope, CONNECTORS)).data_connectors
    health = {one.name: one for one in (await delivery_health.list_health(services, scope)).health}
    pairs = [(one, health[one.name]) for one in listed if one.name in health]
    return OfProject(project, pairs, Permission.DEVELOP in scope.permissions)


PAGES = (show_all, show_new, check, create)
