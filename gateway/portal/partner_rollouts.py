"""Rollouts of a vendor to all devices of its models: planned, followed, paused, resumed, ended."""

from uuid import UUID

from starlette.responses import Response

from gateway.api.scopes import VendorScope
from gateway.organization.rollouts import RolloutsQuery
from gateway.partner import files, rollouts
from gateway.permissions import Permission
from gateway.portal.forms import Form
from gateway.portal.page import Page, page
from gateway.portal.rendering import View, redirect
from gateway.portal.rollouts import RELEASED, SAID, PlanForm, PlanQuery, ShownDevices, actions, sizes
from gateway.services import Services
from schemas.rollouts import RolloutAction

PATH = "/partner/rollouts"
ONE = f"{PATH}/{{model_rollout_id}}"
HERE = {"base": PATH, "firmware": "/partner/firmware", "reach": "vendor"}


@page("GET", PATH, permission=Permission.READ)
async def list_rollouts(services: Services, partner: VendorScope, query: RolloutsQuery) -> View:
    """The vendor's rollouts."""
    found = await rollouts.list_rollouts(services, partner, query)
    return View("rollouts.html", {"rollouts": found, "asked": query} | HERE)


@page("GET", f"{PATH}/new", permission=Permission.ADMINISTER)
async def plan(services: Services, partner: VendorScope, query: PlanQuery, form: Form) -> View:
    """The form of a rollout, or how many devices each wave of it has as it is filled in now."""
    if query.reach:
        devices = None if query.file_id is None else await rollouts.reach(services, partner, query.file_id)
        return View("rollout_reach.html", {"devices": devices, "waves": sizes(devices or 0, query.shares)})
    found = await files.list_files(services, partner, RELEASED)
    offered = [(str(file.id), f"{file.name} {file.version}") for file in found.items]
    return View("rollout_new.html", {"form": form, "files": offered} | HERE)


@page("POST", PATH, permission=Permission.ADMINISTER, shown_by=plan)
async def create_rollout(services: Services, partner: VendorScope, body: PlanForm) -> Response:
    """Plan a rollout."""
    made = await rollouts.create_rollout(services, partner, body.planned())
    return redirect(services, PATH, made.id, said="Planned: nobody is offered it before you start it")


@page("GET", ONE, permission=Permission.READ)
async def read_rollout(
    services: Services, partner: VendorScope, model_rollout_id: UUID, query: ShownDevices, form: Form
) -> View:
    """One rollout, its waves, and its devices."""
    rollout = await rollouts.read_rollout(services, partner, model_rollout_id)
    values = {
        "form": form,
        "rollout": rollout,
        "asked": query,
        "actions": actions(rollout),
        "devices": await rollouts.list_rollout_devices(services, partner, model_rollout_id, query),
    }
    return View("rollout.html", values | HERE)


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

    async def do(services: Services, partner: VendorScope, model_rollout_id: UUID) -> Response:
        await act(services, partner, model_rollout_id)
        return redirect(services, PATH, model_rollout_id, said=SAID[action])

    do.__name__ = f"{action}_rollout"
    do.__doc__ = f"{SAID[action]}."
    return page("POST", f"{ONE}/{action}", permission=Permission.ADMINISTER, shown_by=read_rollout)(do)


start = _action("start")
approve = _action("approve")
pause = _action("pause")
resume = _action("resume")
abort = _action("abort")
next_wave = _action("next_wave")

PAGES = (
    list_rollouts, plan, create_rollout, read_rollout, start, approve, pause, resume, abort, next_wave,
)  # fmt: skip
