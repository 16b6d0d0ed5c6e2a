"""What a device sent in as dumps: its logs and traces."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.paging import PageQuery
from gateway.api.scopes import FleetScope
from gateway.organization import dumps
from gateway.permissions import Permission
from gateway.portal.device.shared import PATH, shown
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services


@page("GET", f"{PATH}/files", permission=Permission.READ)
async def list_dumps(services: Services, fleet: FleetScope, device_id: UUID, query: PageQuery) -> View:
    """The dumps of a device."""
    organization = await fleet.over(services, device_id)
    values = {"dumps": await dumps.list_dumps(services, organization, device_id, query)}
    return await shown(services, organization, device_id, "files", values)


@page("GET", f"{PATH}/files/{{dump_id}}", permission=Permission.READ)
async def download(services: Services, fleet: FleetScope, device_id: UUID, dump_id: UUID, request: Request) -> Response:
    """A dump, which a browser saves and shows nothing of."""
    organization = await fleet.over(services, device_id)
    return await dumps.read_content(services, organization, device_id, dump_id, request)


@page("POST", f"{PATH}/files/{{dump_id}}/delete", permission=Permission.DEVELOP)
async def delete_dump(services: Services, fleet: FleetScope, device_id: UUID, dump_id: UUID) -> Response:
    """Delete a dump."""
    organization = await fleet.over(services, device_id)
    await dumps.delete_dump(services, organization, device_id, dump_id)
    return redirect(services, "/devices", device_id, "files", said="The dump was deleted")


PAGES = (list_dumps, download, delete_dump)
