"""The labels of a device: given, changed, taken away."""

from uuid import UUID

from msgspec import Struct
from starlette.responses import Response

from gateway.api.scopes import FleetScope
from gateway.api.validation import Name
from gateway.permissions import Permission
from gateway.portal.device.settings import settings
from gateway.portal.device.shared import PATH, project_of
from gateway.portal.page import page
from gateway.portal.rendering import redirect
from gateway.services import Services
from gateway.v2 import labels
from gateway.v2.labels import NewLabel
from schemas.ids import device_name


class Taken(Struct):
    """Which label goes."""

    key: Name


@page("POST", f"{PATH}/labels", permission=Permission.DEVELOP, shown_by=settings)
async def label(services: Services, fleet: FleetScope, device_id: UUID, body: NewLabel) -> Response:
    """Give a device a label, or another value of it."""
    await labels.add_label(services, await project_of(services, fleet, device_id), device_name(device_id), body)
    return redirect(services, "/devices", device_id, "settings", said=f"{body.key} is {body.value} now")


@page("POST", f"{PATH}/labels/remove", permission=Permission.DEVELOP, shown_by=settings)
async def unlabel(services: Services, fleet: FleetScope, device_id: UUID, body: Taken) -> Response:
    """Take a label from a device."""
    await labels.remove_label(services, await project_of(services, fleet, device_id), device_name(device_id), body.key)
    return redirect(services, "/devices", device_id, "settings", said=f"The label {body.key} is gone")


PAGES = (label, unlabel)
