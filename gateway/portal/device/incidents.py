"""The incidents and licences of a device."""

from uuid import UUID

from starlette.responses import Response

from gateway.api.scopes import FleetScope
from gateway.organization import incidents, licenses
from gateway.organization.incidents import IncidentsQuery
from gateway.organization.licenses import LicensesQuery
from gateway.permissions import Permission
from gateway.portal.device.shared import PATH, shown
from gateway.portal.device.status import LONG_AGO
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services


@page("GET", f"{PATH}/incidents", permission=Permission.READ)
async def list_incidents(services: Services, fleet: FleetScope, device_id: UUID, query: IncidentsQuery) -> View:
    """What is wrong with a device, and what was."""
    organization = await fleet.over(services, device_id)
    query.device_id = device_id
    query.since = query.since or LONG_AGO
    values = {
        "asked": query,
        "incidents": await incidents.list_incidents(services, fleet, query),
        "licenses": await licenses.list_licenses(
            services, organization, LicensesQuery(device_id=device_id, per_page=100)
        ),
    }
    return await shown(services, organization, device_id, "incidents", values)


@page("POST", f"{PATH}/suspend_incidents", permission=Permission.DEVELOP)
async def suspend(services: Services, fleet: FleetScope, device_id: UUID) -> Response:
    """Open no incidents while somebody works on the device."""
    await incidents.suspend_incidents(services, await fleet.over(services, device_id), device_id)
    return redirect(services, "/devices", device_id, "incidents", said="No incidents are opened for this device now")


@page("POST", f"{PATH}/resume_incidents", permission=Permission.DEVELOP)
async def resume(services: Services, fleet: FleetScope, device_id: UUID) -> Response:
    """Open incidents again."""
    await incidents.resume_incidents(services, await fleet.over(services, device_id), device_id)
    return redirect(services, "/devices", device_id, "incidents", said="Incidents are opened again")


PAGES = (list_incidents, suspend, resume)
