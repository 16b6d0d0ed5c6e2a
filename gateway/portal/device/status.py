"""How a device is: its status and what speaks for it, its latest values, what is open, what people noted."""

from uuid import UUID

from starlette.responses import Response

from gateway.api.paging import PageQuery
from gateway.api.scopes import FleetScope
from gateway.organization import devices, incidents, notes
from gateway.organization.incidents import IncidentsQuery
from gateway.organization.notes import NewNote
from gateway.permissions import Permission
from gateway.portal.device.shared import PATH, shown
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services

SHOWN = 5
"""Incidents and notes that are shown beside the status; their lists have the others."""
LOOKED_AT = 100
"""Open incidents among which the gravest is looked for."""
LONG_AGO = "1970-01-02T00:00:00Z"


@page("GET", PATH, permission=Permission.READ)
async def status(services: Services, fleet: FleetScope, device_id: UUID, form: Form) -> View:
    """The status of a device."""
    organization = await fleet.over(services, device_id)
    still_open = IncidentsQuery(since=LONG_AGO, status="active", device_id=device_id, per_page=LOOKED_AT)
    found = (await incidents.list_incidents(services, fleet, still_open)).items
    values = {
        "form": form,
        "incidents": found[:SHOWN],
        "gravest": min(found, key=lambda one: one.priority, default=None),
        "told": await devices.read_reply(services, organization, device_id),
        "children": await devices.children_of(services, organization, device_id),
        "notes": await notes.list_device_notes(services, organization, device_id, PageQuery(per_page=SHOWN)),
    }
    return await shown(services, organization, device_id, "", values)


@page("POST", f"{PATH}/notes", permission=Permission.DEVELOP, shown_by=status)
async def add_note(services: Services, fleet: FleetScope, device_id: UUID, body: NewNote) -> Response:
    """Write something down."""
    organization = await fleet.over(services, device_id)
    await notes.add_device_note(services, organization, device_id, body)
    return redirect(services, "/devices", device_id, said="The note was added")


@page("POST", f"{PATH}/notes/{{note_id}}/delete", permission=Permission.DEVELOP)
async def delete_note(services: Services, fleet: FleetScope, device_id: UUID, note_id: UUID) -> Response:
    """Delete a note."""
    organization = await fleet.over(services, device_id)
    await notes.delete_device_note(services, organization, device_id, note_id)
    return redirect(services, "/devices", device_id, said="The note was deleted")


PAGES = (status, add_note, delete_note)
