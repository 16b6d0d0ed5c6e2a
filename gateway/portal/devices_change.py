"""Many devices are changed at a time: who says what, sees first how many that is about, and then what came of it."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.api.scopes import FleetScope, OrganizationScope, ProjectScope
from gateway.organization import commands, devices, spaces
from gateway.organization.commands import NewCommand
from gateway.organization.devices import DeviceMove
from gateway.organization.spaces import SpacesQuery
from gateway.permissions import Permission
from gateway.portal.devices import PATH
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.refusals import DoesNotFit, Refusal
from gateway.services import Services
from gateway.stores.devices import owner_view
from gateway.stores.devices.owner_view import OwnedDevice
from gateway.v2.labels import LabelUpdate, update_labels
from schemas import rendering

CHOSEN_MAX = 100
"""As many as a page of the list has."""
REASONS_MAX = 3
SPACES = 100
DELETE = "delete"


class Choice(Struct, kw_only=True):
    """Which devices, and what is to be done with them; `find` narrows the spaces that they may go to."""

    action: Literal["move", "label", "command", "delete"]
    ids: Annotated[list[UUID], Meta(min_length=1, max_length=CHOSEN_MAX)]
    find: Annotated[str, Meta(max_length=200)] | None = None


class Labelling(Struct, kw_only=True):
    """A label that devices get, or without a value lose."""

    key: Annotated[str, Meta(min_length=1)]
    value: str = ""


class Sending(Struct, kw_only=True):
    """A command by its name, with values for its fields."""

    command: Annotated[str, Meta(min_length=1)]
    extra_params: dict[str, Any] = {}


class Confirmation(Struct, kw_only=True):
    """That it is meant: the word `delete`, typed."""

    confirmed: str


@page("GET", "/devices/change", permission=Permission.DEVELOP)
async def change(services: Services, fleet: FleetScope, query: Choice, form: Form) -> View:
    """What will be done, with how many devices."""
    chosen = await _chosen(services, fleet, query)
    places: list[tuple[UUID, str]] = []
    if query.action == "move":
        found = SpacesQuery(per_page=SPACES, path_includes=query.find or None)
        listed = await spaces.list_spaces(services, OrganizationScope(fleet.id, fleet.principal), found)
        allowed = fleet.project_ids
        places = [(one.id, one.full_path) for one in listed.items if allowed is None or one.project_id in allowed]
    values = {"chosen": chosen, "choice": query, "form": form, "places": places, "word": DELETE}
    return View("devices_change.html", values)


@page("POST", "/devices/move", permission=Permission.DEVELOP, shown_by=change)
async def move(services: Services, fleet: FleetScope, query: Choice, body: DeviceMove) -> Response:
    """Put them into another space."""
    place = await spaces.read_space(services, OrganizationScope(fleet.id, fleet.principal), body.space_id)
    if fleet.project_ids is not None and place.project_id not in fleet.project_ids:
        raise DoesNotFit("Space is not one of yours")

    async def one(organization: OrganizationScope, device: OwnedDevice) -> None:
        await devices.move_device(services, organization, device.id, body)

    return await _each(services, fleet, query, one, "moved")


@page("POST", "/devices/label", permission=Permission.DEVELOP, shown_by=change)
async def label(services: Services, fleet: FleetScope, query: Choice, body: Labelling) -> Response:
    """Give them a label, or take it."""

    async def one(organization: OrganizationScope, device: OwnedDevice) -> None:
        assert device.project_id is not None
        added, removed = ({body.key: body.value}, []) if body.value else ({}, [body.key])
        name = rendering.device_path(device.project_id, device.id)
        update = LabelUpdate(devices=[name], add_labels=added, remove_labels=removed)
        scope = ProjectScope(device.project_id, fleet.principal, fleet.id)
        for error in (await update_labels(services, scope, update)).batch_errors:
            raise DoesNotFit(error.status.message)

    return await _each(services, fleet, query, one, "labelled")


@page("POST", "/devices/command", permission=Permission.DEVELOP, shown_by=change)
async def command(services: Services, fleet: FleetScope, query: Choice, body: Sending) -> Response:
    """Send them a command."""

    async def one(organization: OrganizationScope, device: OwnedDevice) -> None:
        given = NewCommand(command=body.command, extra_params=body.extra_params)
        await commands.send_command(services, organization, device.id, given)

    return await _each(services, fleet, query, one, "told")


@page("POST", "/devices/delete", permission=Permission.DEVELOP, shown_by=change)
async def delete(services: Services, fleet: FleetScope, query: Choice, body: Confirmation) -> Response:
    """Delete them."""
    if body.confirmed != DELETE:
        raise DoesNotFit(f"Confirmed: type {DELETE}")

    async def one(organization: OrganizationScope, device: OwnedDevice) -> None:
        await devices.delete_device(services, organization, device.id)

    return await _each(services, fleet, query, one, "deleted")


async def _chosen(services: Services, fleet: FleetScope, query: Choice) -> list[OwnedDevice]:
    """The devices that were chosen; those that are not there for this person are left out."""
    found = await owner_view.by_ids(services.postgres, fleet.id, query.ids)
    return [device for device in found if fleet.project_ids is None or device.project_id in fleet.project_ids]


async def _each(
    services: Services,
    fleet: FleetScope,
    query: Choice,
    one: Callable[[OrganizationScope, OwnedDevice], Awaitable[None]],
    done: str,
) -> Response:
    """Do it with one after the other; what is refused of one does not keep the others from it."""
    reasons: dict[str, int] = {}
    chosen = await _chosen(services, fleet, query)
    for device in chosen:
        try:
            await one(OrganizationScope(fleet.id, fleet.principal), device)
        except Refusal as refusal:
            reasons[refusal.text] = reasons.get(refusal.text, 0) + 1
    refused = sum(reasons.values())
    said = f"{len(chosen) - refused} of {len(query.ids)} devices {done}"
    if reasons:
        said += ": " + "; ".join(f"{number} not: {text}" for text, number in list(reasons.items())[:REASONS_MAX])
    return redirect(services, PATH, said=said)


PAGES = (change, move, label, command, delete)
