"""What people set about a device: name, details and space; another unit in its place, a new key; its end."""

from typing import Any
from uuid import UUID

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.page_tokens import PageQuery
from gateway.api.scopes import FleetScope
from gateway.api.validation import Label
from gateway.organization import device_keys, devices, replacements
from gateway.organization.device_keys import Rotation
from gateway.organization.devices import DeviceChange, DeviceMove
from gateway.organization.replacements import NewUnit
from gateway.permissions import Permission
from gateway.portal import spaces_offered
from gateway.portal.device.shared import PATH, project_of, shown
from gateway.portal.forms import DoesNotFitFields, Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services
from gateway.v2 import labels
from schemas.ids import device_name

NOT_THE_NAME = "Type the name as it is shown"


class Facts(Struct):
    """What the owner calls and notes of a device."""

    name: Label
    details: dict[str, Any]


class Confirmed(Struct):
    """The name of what is to go, typed."""

    confirmed: Label


@page("GET", f"{PATH}/settings", permission=Permission.READ)
async def settings(services: Services, fleet: FleetScope, device_id: UUID, form: Form) -> View:
    """The settings of a device."""
    organization = await fleet.over(services, device_id)
    project = await project_of(services, fleet, device_id)
    found = await labels.list_labels(services, project, device_name(device_id), PageQuery())
    values = {
        "form": form,
        "spaces": await spaces_offered.options(services, fleet),
        "labels": [one for one in found.labels if one.key != "name"],
    }
    return await shown(services, organization, device_id, "settings", values)


@page("POST", f"{PATH}/facts", permission=Permission.DEVELOP, shown_by=settings)
async def change_facts(services: Services, fleet: FleetScope, device_id: UUID, body: Facts) -> Response:
    """Name a device, and note details of it."""
    organization = await fleet.over(services, device_id)
    await devices.change_device(services, organization, device_id, DeviceChange(name=body.name, details=body.details))
    return redirect(services, "/devices", device_id, "settings", said="Saved; the device is told")


@page("POST", f"{PATH}/move", permission=Permission.DEVELOP, shown_by=settings)
async def move(services: Services, fleet: FleetScope, device_id: UUID, body: DeviceMove) -> Response:
    """Put a device into another space."""
    organization = await fleet.over(services, device_id)
    moved = await devices.move_device(services, organization, device_id, body)
    where = moved.space.full_path if moved.space else ""
    return redirect(services, "/devices", device_id, "settings", said=f"The device is in {where} now")


@page("POST", f"{PATH}/rotate_key", permission=Permission.ADMINISTER, shown_by=settings)
async def rotate_key(services: Services, fleet: FleetScope, device_id: UUID, body: Rotation) -> View:
    """Give a device a new key, which is shown this once."""
    organization = await fleet.over(services, device_id)
    key = await device_keys.rotate_key(services, organization, device_id, body)
    return await shown(services, organization, device_id, "key", {"key": key})


@page("POST", f"{PATH}/replace", permission=Permission.ADMINISTER, shown_by=settings)
async def replace(services: Services, request: Request, fleet: FleetScope, device_id: UUID, body: NewUnit) -> Response:
    """Have another unit take the device's place as soon as it registers."""
    organization = await fleet.over(services, device_id)
    await replacements.replace_device(services, request, organization, device_id, body)
    said = "The unit takes this device's place as soon as it registers"
    return redirect(services, "/devices", device_id, "settings", said=said)


@page("POST", f"{PATH}/replace/undo", permission=Permission.ADMINISTER)
async def undo_replacement(services: Services, fleet: FleetScope, device_id: UUID) -> Response:
    """Keep the unit."""
    await replacements.undo_replacement(services, await fleet.over(services, device_id), device_id)
    return redirect(services, "/devices", device_id, "settings", said="The unit stays")


@page("POST", f"{PATH}/confirm_return", permission=Permission.ADMINISTER)
async def confirm_return(services: Services, fleet: FleetScope, device_id: UUID) -> Response:
    """Let a unit that asked to come back do so."""
    await replacements.confirm_return(services, await fleet.over(services, device_id), device_id)
    return redirect(services, "/devices", device_id, said="The unit may register again, once, within 24 hours")


@page("POST", f"{PATH}/delete", permission=Permission.DEVELOP, shown_by=settings)
async def delete(services: Services, fleet: FleetScope, device_id: UUID, body: Confirmed) -> Response:
    """Delete a device whose name was typed."""
    organization = await fleet.over(services, device_id)
    device = await devices.read_device(services, organization, device_id)
    if body.confirmed != (device.name or device.sn or str(device.id)):
        raise DoesNotFitFields({"confirmed": NOT_THE_NAME})
    await devices.delete_device(services, organization, device_id)
    return redirect(services, "/devices", said=f"{body.confirmed} was deleted")


PAGES = (
    settings, change_facts, move, rotate_key, replace, undo_replacement, confirm_return, delete,
)  # fmt: skip
