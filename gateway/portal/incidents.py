"""What is wrong with the fleet, and what was: found, assigned, commented, closed."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta
from starlette.responses import Response

from gateway.api.callers.api_keys import BOTH, OWNER
from gateway.api.scopes import FleetScope, SideScope
from gateway.organization import incidents, tickets
from gateway.organization.incidents import IncidentChange, IncidentsQuery, NewIncident
from gateway.organization.tickets import NewTicket
from gateway.permissions import Permission
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.portal.sides import shown
from gateway.services import Services
from schemas.incidents import PRIORITIES

PATH = "/incidents"
ONE = f"{PATH}/{{incident_id}}"


class ShownQuery(IncidentsQuery, kw_only=True):
    """Which incidents."""

    per_page: Annotated[int, Meta(ge=1, le=100)] = 50


@page("GET", PATH, doors=BOTH, permission=Permission.READ)
async def list_incidents(services: Services, side: SideScope, query: ShownQuery, form: Form) -> View:
    """The incidents."""
    values = {
        "form": form,
        "asked": query,
        "incidents": await incidents.list_incidents(services, side, query),
        "priorities": [(name, name) for name in PRIORITIES],
    }
    return View("incidents.html", values | shown(side, "fleet"))


@page("POST", PATH, doors=(OWNER,), permission=Permission.DEVELOP, shown_by=list_incidents)
async def open_incident(services: Services, fleet: FleetScope, body: NewIncident) -> Response:
    """Open an incident that a person found."""
    organization = await fleet.over(services, body.device_id)
    opened = await incidents.open_incident(services, organization, body)
    return redirect(services, PATH, opened.id, said="The incident is open")


@page("GET", ONE, doors=BOTH, permission=Permission.READ)
async def read_incident(services: Services, side: SideScope, incident_id: UUID, form: Form) -> View:
    """One incident."""
    whole = await side.over_incident(services, incident_id)
    values = {"form": form, "incident": await incidents.read_incident(services, whole, incident_id)}
    return View("incident.html", values | shown(side, "fleet"))


@page("POST", ONE, doors=(OWNER,), permission=Permission.DEVELOP, shown_by=read_incident)
async def change_incident(services: Services, fleet: FleetScope, incident_id: UUID, body: IncidentChange) -> Response:
    """Say who looks after it, and what there is to say."""
    organization = await fleet.over_incident(services, incident_id)
    await incidents.change_incident(services, organization, incident_id, body)
    return redirect(services, PATH, incident_id, said="Saved")


@page("POST", f"{ONE}/close", permission=Permission.DEVELOP)
async def close_incident(services: Services, fleet: FleetScope, incident_id: UUID) -> Response:
    """Close it."""
    organization = await fleet.over_incident(services, incident_id)
    await incidents.close_incident(services, organization, incident_id)
    return redirect(services, PATH, incident_id, said="The incident is closed")


@page("POST", f"{ONE}/ticket", permission=Permission.DEVELOP)
async def make_ticket(services: Services, fleet: FleetScope, incident_id: UUID) -> Response:
    """Tell the maker of the device's model of it."""
    organization = await fleet.over_incident(services, incident_id)
    ticket = await tickets.create_ticket(services, organization, NewTicket(incident_id=incident_id))
    return redirect(services, "/tickets", ticket.id, said="The maker of the device sees this ticket now")


PAGES = (list_incidents, open_incident, read_incident, change_incident, close_incident, make_ticket)
