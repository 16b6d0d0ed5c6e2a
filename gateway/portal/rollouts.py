"""Rollouts of firmware: planned in waves, followed as they go, paused, resumed and ended."""

from collections.abc import Iterable
from datetime import time
from itertools import pairwise
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct, field
from starlette.responses import Response

from gateway.api.callers.api_keys import BOTH
from gateway.api.scopes import SideScope, WholeScope
from gateway.api.validation import Name, Text
from gateway.organization import files, rollouts
from gateway.organization.files import FilesQuery
from gateway.organization.rollouts import (
    Many,
    NewRollout,
    NewRolloutGate,
    NewRolloutWave,
    NewRolloutWindow,
    Percent,
    RolloutDevicesQuery,
    RolloutsQuery,
)
from gateway.permissions import Permission
from gateway.portal.forms import DoesNotFitFields, Form
from gateway.portal.page import Page, page
from gateway.portal.rendering import View, redirect
from gateway.portal.sides import base, shown
from gateway.services import Services
from gateway.stores.rollouts.rollout_view import Rollout
from schemas.rollouts import Channel, PartState, RolloutAction, possible

PATH = "/rollouts"
ONE = f"{PATH}/{{rollout_id}}"
RELEASED = FilesQuery(file_type="firmware", status="released", per_page=100)
HOUR_S = 3600
Hours = Annotated[float, Meta(ge=0, le=24 * 90)]
SAID = {
    "start": "The rollout is started", "approve": "The rollout is approved", "pause": "The rollout is paused",
    "resume": "The rollout goes on", "abort": "The rollout is ended", "next_wave": "The next wave may begin",
}  # fmt: skip


class WaveForm(Struct, kw_only=True, frozen=True):
    """One wave of the form; without a percentage there is none."""

    percent: Percent | None = None
    soak_h: Hours = 0.0
    failed_percent: Percent | None = None


class PlanForm(Struct, kw_only=True):
    """A rollout as its form says it."""

    name: Name
    description: Text = ""
    file_id: UUID
    channel: Channel = "reply"
    max_per_minute: Many | None = None
    opens: time | None = None
    closes: time | None = None
    needs_approval: bool = False
    first: WaveForm = WaveForm()
    second: WaveForm = WaveForm()
    third: WaveForm = WaveForm()
    fourth: WaveForm = WaveForm()

    def planned(self) -> NewRollout:
        """As the API is told."""
        waves = [
            NewRolloutWave(
                percent=wave.percent,
                soak_s=round(wave.soak_h * HOUR_S),
                gate=NewRolloutGate(failed_percent=wave.failed_percent),
            )
            for wave in (self.first, self.second, self.third, self.fourth)
            if wave.percent is not None
        ]
        if (self.opens is None) != (self.closes is None):
            raise DoesNotFitFields({"opens" if self.opens is None else "closes": "Give both, or neither"})
        window = self.opens and self.closes and NewRolloutWindow(opens=self.opens, closes=self.closes)
        given: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("name", "description", "file_id", "channel", "max_per_minute", "needs_approval")
        }
        if waves:
            given["waves"] = waves
        return NewRollout(**given, window=window or None)


class PlanQuery(Struct, kw_only=True):
    """With `reach`, of which firmware, and up to which share of its devices each wave reaches."""

    reach: bool = False
    file_id: UUID | None = None
    first: Percent | None = field(default=None, name="first.percent")
    second: Percent | None = field(default=None, name="second.percent")
    third: Percent | None = field(default=None, name="third.percent")
    fourth: Percent | None = field(default=None, name="fourth.percent")

    @property
    def shares(self) -> tuple[float | None, ...]:
        """Of all waves."""
        return (self.first, self.second, self.third, self.fourth)

    def is_long(self) -> bool:
        """All devices of a model are counted."""
        return self.reach


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
        return View("rollout_reach.html", {"devices": devices, "waves": sizes(devices or 0, query.shares)})
    found = await files.list_files(services, side, RELEASED)
    offered = [(str(file.id), f"{file.name} {file.version}") for file in found.items]
    return View("rollout_new.html", {"form": form, "files": offered} | shown(side, "organization"))


@page("POST", PATH, doors=BOTH, permission=Permission.ADMINISTER, shown_by=plan)
async def create_rollout(services: Services, side: WholeScope, body: PlanForm) -> Response:
    """Plan a rollout."""
    made = await rollouts.create_rollout(services, side, body.planned())
    return redirect(services, base(side) + PATH, made.id, said="Planned: nobody is offered it before you start it")


@page("GET", ONE, doors=BOTH, permission=Permission.READ)
async def read_rollout(services: Services, side: SideScope, rollout_id: UUID, query: ShownDevices, form: Form) -> View:
    """One rollout, its waves, and its devices, those that the person sees."""
    rollout = await rollouts.read_rollout(services, side.organization, rollout_id)
    values = {
        "form": form,
        "rollout": rollout,
        "asked": query,
        "actions": actions(rollout),
        "devices": await rollouts.list_rollout_devices(services, side, rollout_id, query),
    }
    return View("rollout.html", values | shown(side, "organization"))


def sizes(devices: int, shares: Iterable[float | None]) -> list[int]:
    """About how many devices each wave takes in, where all shares are of so many."""
    upto = [round(devices * share / 100) for share in shares if share is not None]
    return [max(now - before, 0) for before, now in pairwise([0, *upto])]


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
    list_rollouts, plan, create_rollout, read_rollout, start, approve, pause, resume, abort, next_wave,
)  # fmt: skip
