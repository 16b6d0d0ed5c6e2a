"""Many devices are changed at a time: who says what, sees first how many that is about, and then what came of it.

Devices are chosen one by one, or as all that fit the filters of the list. Of these so many are changed with each form,
and the page that tells how far it is sends the next one by itself, from behind the last device on: who closes it stops.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct, field
from starlette.responses import Response

from gateway.api.scopes import FleetScope, OrganizationScope, ProjectScope
from gateway.organization import commands, devices, spaces
from gateway.organization.commands import NewCommand
from gateway.organization.devices import DeviceMove
from gateway.organization.spaces import SpacesQuery
from gateway.permissions import Permission
from gateway.portal.devices import PATH, ShownQuery
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
DELETE, DELETE_ALL = "delete", "delete all"
COUNT_MAX = 1_000_000_000


class Choice(ShownQuery, kw_only=True):
    """Which devices, and what is to be done with them: these, or `all` that fit the filters.

    `find` narrows the spaces that they may go to. Of all, those up to `after` were looked at: so many are `done`, so
    many `refused`.
    """

    action: Literal["move", "label", "command", "delete"]
    ids: Annotated[list[UUID], Meta(max_length=CHOSEN_MAX)] = field(default_factory=list)
    find: Annotated[str, Meta(max_length=200)] | None = None
    all: bool = False
    after: UUID | None = None
    done: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0
    refused: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0


class Chosen(Struct, frozen=True):
    """The devices to be changed next; where `up_to` is given there may be more behind that one."""

    devices: list[OwnedDevice]
    up_to: UUID | None = None


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
    values = {
        "chosen": chosen.devices,
        "has_more": chosen.up_to is not None,
        "total": await devices.tally(services, fleet, query.asked(services), fleet.project_ids) if query.all else None,
        "choice": query,
        "form": form,
        "places": places,
        "word": DELETE_ALL if query.all else DELETE,
    }
    return View("devices_change.html", values)


@page("POST", "/devices/move", permission=Permission.DEVELOP, shown_by=change)
async def move(services: Services, fleet: FleetScope, query: Choice, body: DeviceMove) -> View | Response:
    """Put them into another space."""
    place = await spaces.read_space(services, OrganizationScope(fleet.id, fleet.principal), body.space_id)
    if fleet.project_ids is not None and place.project_id not in fleet.project_ids:
        raise DoesNotFit("Space is not one of yours")

    async def one(organization: OrganizationScope, device: OwnedDevice) -> None:
        await devices.move_device(services, organization, device.id, body)

    return await _each(services, fleet, query, body, one, "moved")


@page("POST", "/devices/label", permission=Permission.DEVELOP, shown_by=change)
async def label(services: Services, fleet: FleetScope, query: Choice, body: Labelling) -> View | Response:
    """Give them a label, or take it."""

    async def one(organization: OrganizationScope, device: OwnedDevice) -> None:
        assert device.project_id is not None
        added, removed = ({body.key: body.value}, []) if body.value else ({}, [body.key])
        name = rendering.device_path(device.project_id, device.id)
        update = LabelUpdate(devices=[name], add_labels=added, remove_labels=removed)
        scope = ProjectScope(device.project_id, fleet.principal, fleet.id)
        for error in (await update_labels(services, scope, update)).batch_errors:
            raise DoesNotFit(error.status.message)

    return await _each(services, fleet, query, body, one, "labelled")


@page("POST", "/devices/command", permission=Permission.DEVELOP, shown_by=change)
async def command(services: Services, fleet: FleetScope, query: Choice, body: Sending) -> View | Response:
    """Send them a command."""

    async def one(organization: OrganizationScope, device: OwnedDevice) -> None:
        given = NewCommand(command=body.command, extra_params=body.extra_params)
        await commands.send_command(services, organization, device.id, given)

    return await _each(services, fleet, query, body, one, "told")


@page("POST", "/devices/delete", permission=Permission.DEVELOP, shown_by=change)
async def delete(services: Services, fleet: FleetScope, query: Choice, body: Confirmation) -> View | Response:
    """Delete them."""
    word = DELETE_ALL if query.all else DELETE
    if body.confirmed != word:
        raise DoesNotFit(f"Confirmed: type {word}")

    async def one(organization: OrganizationScope, device: OwnedDevice) -> None:
        await devices.delete_device(services, organization, device.id)

    return await _each(services, fleet, query, body, one, "deleted")


async def _chosen(services: Services, fleet: FleetScope, query: Choice) -> Chosen:
    """The devices that were chosen, or the next that fit; those that are not there for this person are left out."""
    ids, up_to = query.ids, None
    if query.all:
        asked = query.asked(services)
        ids, up_to = await devices.fitting(services, fleet, asked, fleet.project_ids, query.after, CHOSEN_MAX)
    elif not ids:
        raise DoesNotFit("Choose at least one device")
    found = await owner_view.by_ids(services.postgres, fleet.id, ids)
    return Chosen([one for one in found if fleet.project_ids is None or one.project_id in fleet.project_ids], up_to)


async def _each(
    services: Services,
    fleet: FleetScope,
    query: Choice,
    body: Struct,
    one: Callable[[OrganizationScope, OwnedDevice], Awaitable[None]],
    done: str,
) -> View | Response:
    """Do it with one after the other; what is refused of one does not keep the others from it."""
    reasons: dict[str, int] = {}
    chosen = await _chosen(services, fleet, query)
    for device in chosen.devices:
        try:
            await one(OrganizationScope(fleet.id, fleet.principal), device)
        except Refusal as refusal:
            reasons[refusal.text] = reasons.get(refusal.text, 0) + 1
    refused = sum(reasons.values())
    changed = len(chosen.devices) - refused
    if query.all:
        values = {
            "up_to": chosen.up_to,
            "done": query.done + changed,
            "refused": query.refused + refused,
            "reasons": list(reasons.items())[:REASONS_MAX],
            "word": done,
            "fields": _fields(body),
        }
        return View("devices_change_all.html", values)
    said = f"{changed} of {len(query.ids)} devices {done}"
    if reasons:
        said += ": " + "; ".join(f"{number} not: {text}" for text, number in list(reasons.items())[:REASONS_MAX])
    return redirect(services, PATH, said=said)


def _fields(body: Struct) -> dict[str, str]:
    """A form as it was sent, to be sent again."""
    given = msgspec.to_builtins(body)
    return {name: one if isinstance(one, str) else msgspec.json.encode(one).decode() for name, one in given.items()}


PAGES = (change, move, label, command, delete)
