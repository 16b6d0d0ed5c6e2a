"""Rollouts of firmware: planned in waves, followed as they go, paused, resumed and ended."""

from collections.abc import Sequence
from uuid import UUID

from starlette.responses import Response

from gateway.api.callers.api_keys import BOTH
from gateway.api.scopes import SideScope, WholeScope
from gateway.organization import files, rollouts
from gateway.organization.files import FilesQuery
from gateway.organization.rollouts import RolloutDevicesQuery, RolloutsQuery
from gateway.permissions import Permission
from gateway.portal import rollout_form
from gateway.portal.forms import Form
from gateway.portal.page import Page, page
from gateway.portal.rendering import View, redirect
from gateway.portal.rollout_form import ChangeForm, PlanForm, PlanQuery
from gateway.portal.sides import base, shown
from gateway.services import Services
from gateway.stores.files.catalog import File
from gateway.stores.rollouts.rollout_view import Rollout
from schemas.rollouts import ENDED, PartState, RolloutAction, possible

PATH = "/rollouts"
ONE = f"{PATH}/{{rollout_id}}"
RELEASED = FilesQuery(file_type="firmware", status="released", per_page=100)
SAID = {
    "start": "The rollout is started", "approve": "The rollout is approved", "pause": "The rollout is paused",
    "resume": "The rollout goes on", "abort": "The rollout is ended", "next_wave": "The next wave may begin",
}  # fmt: skip


class ShownDevices(RolloutDevicesQuery, kw_only=True):
    """Which of its devices are listed."""

    state: PartState | None = None


@page("GET", PATH, doors=BOTH, permission=Permission.READ)
async def list_rollouts(services: Services, side: SideScope, query: RolloutsQuery) -> View:
    """The rollouts."""
    found = await rollouts.list_rollouts(services, side.organization, query)
    return View("rollouts.html", {"rollouts": found, "asked": query} | shown(side, "organization"))


@page("GET", f"{PATH}/new", doors=BOTH, permission=Permission.ADMINISTER)
async def plan(services: Services, side: WholeScope, query: PlanQuery, form: Form) -> View:
    """The form of a rollout, or how many devices each wave of it has as it is filled in now."""
    if query.reach:
        devices = None if query.file_id is None else await rollouts.reach(services, side, query.file_id)
        return View(
            "rollout_reach.html", {"devices": devices, "waves": rollout_form.sizes(devices or 0, query.amounts)}
        )
    found = await files.list_files(services, side, RELEASED)
    values = {"form": form, "files": files_of(found.items)} | rollout_form.shown(None)
    return View("rollout_new.html", values | shown(side, "organization"))


@page("POST", PATH, doors=BOTH, permission=Permission.ADMINISTER, shown_by=plan)
async def create_rollout(services: Services, side: WholeScope, body: PlanForm) -> Response:
    """Plan a rollout."""
    made = await rollouts.create_rollout(services, side, body.planned())
    return redirect(services, base(side) + PATH, made.id, said="Planned: nobody is offered it before you start it")


@page("GET", f"{ONE}/edit", doors=BOTH, permission=Permission.ADMINISTER)
async def edit(services: Services, side: WholeScope, rollout_id: UUID, form: Form) -> View:
    """The form of a rollout that there is."""
    rollout = await rollouts.read_rollout(services, side, rollout_id)
    found = await files.list_files(services, side, RELEASED)
    values = {"form": form, "files": files_of(found.items, rollout)} | rollout_form.shown(rollout)
    return View("rollout_new.html", values | shown(side, "organization"))


@page("POST", ONE, doors=BOTH, permission=Permission.ADMINISTER, shown_by=edit)
async def change_rollout(services: Services, side: WholeScope, rollout_id: UUID, body: ChangeForm) -> Response:
    """Change a rollout."""
    was = await rollouts.read_rollout(services, side, rollout_id)
    await rollouts.change_rollout(services, side, rollout_id, body.patch(was))
    return redirect(services, base(side) + PATH, rollout_id, said="Saved")


@page("GET", ONE, doors=BOTH, permission=Permission.READ)
async def read_rollout(services: Services, side: SideScope, rollout_id: UUID, query: ShownDevices, form: Form) -> View:
    """One rollout, its waves, and its devices, those that the person sees."""
    rollout = await rollouts.read_rollout(services, side.organization, rollout_id)
    values = {
        "form": form,
        "rollout": rollout,
        "asked": query,
        "actions": actions(rollout),
        "changes": rollout.status not in (*ENDED, "waiting_for_approval"),
        "planned": rollout_form.reach_of(rollout),
        "devices": await rollouts.list_rollout_devices(services, side, rollout_id, query),
    }
    return View("rollout.html", values | shown(side, "organization"))


def files_of(found: Sequence[File], rollout: Rollout | None = None) -> list[tuple[str, str]]:
    """The firmware that the form offers: what is released, and what the rollout is of."""
    offered = {str(file.id): f"{file.name} {file.version}" for file in found}
    if rollout is not None:
        offered.setdefault(str(rollout.file_id), rollout.version)
    return list(offered.items())


def actions(rollout: Rollout) -> list[RolloutAction]:
    """What may be done now; the last wave that waits is the only one that a person lets pass."""
    waits = any(wave.status == "waiting" for wave in rollout.waves)
    return [action for action in possible(rollout.status) if action != "next_wave" or waits]


def _action(action: RolloutAction) -> Page:
    """The page that does one thing to a rollout."""
    act = {
        "start": rollouts.start_rollout,
        "approve": rollouts.approve_rollout,
        "pause": rollouts.pause_rollout,
        "resume": rollouts.resume_rollout,
        "abort": rollouts.abort_rollout,
        "next_wave": rollouts.begin_next_wave,
    }[action]

    async def do(services: Services, side: WholeScope, rollout_id: UUID) -> Response:
        await act(services, side, rollout_id)
        return redirect(services, base(side) + PATH, rollout_id, said=SAID[action])

    do.__name__ = f"{action}_rollout"
    do.__doc__ = f"{SAID[action]}."
    return page("POST", f"{ONE}/{action}", doors=BOTH, permission=Permission.ADMINISTER, shown_by=read_rollout)(do)


start = _action("start")
approve = _action("approve")
pause = _action("pause")
resume = _action("resume")
abort = _action("abort")
next_wave = _action("next_wave")

PAGES = (
    list_rollouts, plan, create_rollout, edit, change_rollout, read_rollout,
    start, approve, pause, resume, abort, next_wave,
)  # fmt: skip
