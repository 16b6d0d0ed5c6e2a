"""Firmware rollouts, of an owner to its devices or of a vendor to all of its models: waves, gates, windows, and what
people do while one is under way."""

from datetime import datetime, time
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from gateway.api import paging
from gateway.api.callers.api_keys import BOTH
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import SideScope, WholeScope
from gateway.api.validation import Label, Name, Text
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.rollouts import campaigns, plans, rollout_view
from gateway.stores.rollouts.campaigns import RolloutChanges
from gateway.stores.rollouts.plans import Plan, PlannedWave, RolloutGate, RolloutWindow
from gateway.stores.rollouts.rollout_view import Rollout, RolloutDevice, RolloutSummary
from schemas.bounds import ROLLOUT_GRACE_S, ROLLOUT_RETRIES, ROLLOUT_SOAK_S, ROLLOUT_TIMEOUT_S
from schemas.rollouts import WAVES_MAX, Channel, OnFailure, OnSuccess, PartState, RolloutAction, RolloutStatus

INTEGER_MAX = 2**31 - 1

Percent = Annotated[float, Meta(gt=0, le=100)]
Many = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
Moment = Annotated[datetime, Meta(tz=True)]
TimeOfDay = Annotated[time, Meta(tz=False, description="Local time, such as 02:00:00.", examples=["02:00:00"])]
TimeoutS = Annotated[
    int, Meta(ge=ROLLOUT_TIMEOUT_S.least, le=ROLLOUT_TIMEOUT_S.most, description="From offer to report.")
]
GraceS = Annotated[
    int, Meta(ge=ROLLOUT_GRACE_S.least, le=ROLLOUT_GRACE_S.most, description="From a command done to the report.")
]
Retries = Annotated[int, Meta(ge=ROLLOUT_RETRIES.least, le=ROLLOUT_RETRIES.most)]


class NewRolloutGate(Struct, kw_only=True):
    """What is too much in a wave, and what happens then; percentages count from `min_reported` reports on."""

    min_reported: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] = 0
    failed_percent: Percent | None = None
    failed_count: Many | None = None
    on_failure: OnFailure = "pause"
    back_to_file_id: UUID | None = None
    on_success: OnSuccess = "next"


class NewRolloutWave(Struct, kw_only=True):
    """Who comes next, one of: up to a share of all devices, so many more, those with all these labels, those in a space
    or below it. `soak_s` is how long the wave rests when all its devices are through.
    """

    percent: Percent | None = None
    count: Many | None = None
    labels: dict[Name, Label] | None = None
    space_id: UUID | None = None
    starts_at: Moment | None = None
    soak_s: Annotated[int, Meta(ge=ROLLOUT_SOAK_S.least, le=ROLLOUT_SOAK_S.most)] = ROLLOUT_SOAK_S.default
    gate: NewRolloutGate = field(default_factory=NewRolloutGate)


class NewRolloutWindow(Struct, kw_only=True):
    """A daily window in the time zone of a device's space; with `download_before` only installing waits for it."""

    opens: TimeOfDay
    closes: TimeOfDay
    download_before: bool = False


EXAMPLE_WAVES = [
    {"percent": 5, "soak_s": 3600, "gate": {"min_reported": 20, "failed_percent": 10}},
    {"percent": 25, "soak_s": 86_400, "gate": {"failed_count": 50, "on_failure": "abort", "on_success": "wait"}},
    {"percent": 100},
]
NewWaves = Annotated[list[NewRolloutWave], Meta(min_length=1, max_length=WAVES_MAX, examples=[EXAMPLE_WAVES])]


class NewRollout(Struct, kw_only=True):
    """A rollout of firmware, a draft until it is started. Without waves it goes to all devices at once."""

    name: Annotated[Name, Meta(examples=["Version 2.4.0"])]
    description: Text = ""
    file_id: UUID
    channel: Channel = "reply"
    dynamic: bool = False
    max_per_minute: Many | None = None
    window: NewRolloutWindow | None = None
    report_timeout_s: TimeoutS = ROLLOUT_TIMEOUT_S.default
    grace_s: GraceS = ROLLOUT_GRACE_S.default
    retries: Retries = ROLLOUT_RETRIES.default
    needs_approval: bool = False
    starts_at: Moment | None = None
    waves: NewWaves = field(default_factory=lambda: [NewRolloutWave(percent=100)])


class RolloutPatch(Struct, kw_only=True):
    """What changes of a rollout; members that are absent stay. Waves are given as a whole."""

    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    file_id: UUID | UnsetType = UNSET
    channel: Channel | UnsetType = UNSET
    dynamic: bool | UnsetType = UNSET
    max_per_minute: Many | UnsetType | None = UNSET
    window: NewRolloutWindow | UnsetType | None = UNSET
    report_timeout_s: TimeoutS | UnsetType = UNSET
    grace_s: GraceS | UnsetType = UNSET
    retries: Retries | UnsetType = UNSET
    needs_approval: bool | UnsetType = UNSET
    starts_at: Moment | UnsetType | None = UNSET
    waves: NewWaves | UnsetType = UNSET


class RolloutsQuery(PageQuery, kw_only=True):
    """Which rollouts: in one status, of one file."""

    status: RolloutStatus | None = None
    file_id: UUID | None = None

    def is_long(self) -> bool:
        """One that is narrowed looks at all rollouts."""
        return super().is_long() or (self.status, self.file_id) != (None, None)


class RolloutDevicesQuery(PageQuery, kw_only=True):
    """Which of its devices: in one state, of one wave."""

    state: PartState | None = None
    wave: Annotated[int, Meta(ge=0, le=WAVES_MAX)] | None = None

    def is_long(self) -> bool:
        """One that is narrowed looks at every device of the rollout."""
        return super().is_long() or (self.state, self.wave) != (None, None)


PATH = "/rollouts"
ONE = f"{PATH}/{{rollout_id}}"
_NOT_FOUND = {404: "Rollout not found."}
_ACTION = {**_NOT_FOUND, 409: "Not in the state that the rollout is in."}


@endpoint("GET", PATH, doors=BOTH, permission=Permission.READ)
async def list_rollouts(services: Services, side: WholeScope, query: RolloutsQuery) -> Page[RolloutSummary]:
    """List rollouts, newest first."""

    async def read(window: Window) -> list[RolloutSummary]:
        return await rollout_view.page(
            services.postgres,
            side.whose,
            status=query.status,
            file_id=query.file_id,
            before=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("rollouts", *side.whose, query.status, query.file_id)
    return await paging.read_page(services, scope, query.page, query.per_page, read, lambda one: [str(one.id)])


@endpoint("POST", PATH, doors=BOTH, permission=Permission.ADMINISTER, status=201)
async def create_rollout(services: Services, side: WholeScope, body: NewRollout) -> Rollout:
    """Plan a rollout of firmware; nobody is offered it before the rollout reaches them."""
    given = {name: getattr(body, name) for name in body.__struct_fields__}
    plan = Plan(**given | {"window": _window(body.window), "waves": _waves(body.waves)})
    async with change(services) as changed:
        return await campaigns.create(changed, side.whose, plan, by=side.principal.id)


@endpoint("GET", ONE, doors=BOTH, permission=Permission.READ, errors=_NOT_FOUND)
async def read_rollout(services: Services, side: WholeScope, rollout_id: UUID) -> Rollout:
    """Read a rollout, with its devices counted by wave and outcome."""
    return await rollout_view.read(services.postgres, side.whose, rollout_id)


@endpoint(
    "PATCH",
    ONE,
    doors=BOTH,
    permission=Permission.ADMINISTER,
    errors={**_NOT_FOUND, 409: "That cannot be changed any more."},
)
async def change_rollout(services: Services, side: WholeScope, rollout_id: UUID, body: RolloutPatch) -> Rollout:
    """Change a rollout: anything in a draft, later its pace, window, limits and the waves that have not begun."""
    given = {name: getattr(body, name) for name in body.__struct_fields__}
    if isinstance(body.window, NewRolloutWindow):
        given["window"] = _window(body.window)
    if body.waves is not UNSET:
        given["waves"] = _waves(body.waves)
    async with change(services) as changed:
        return await campaigns.update(changed, side.whose, rollout_id, RolloutChanges(**given))


@endpoint("GET", f"{ONE}/devices", doors=BOTH, permission=Permission.READ, errors=_NOT_FOUND)
async def list_rollout_devices(
    services: Services, side: SideScope, rollout_id: UUID, query: RolloutDevicesQuery
) -> Page[RolloutDevice]:
    """List the devices of a rollout, each with its part."""
    await rollout_view.check_issued(services.postgres, side.whose, rollout_id)

    async def read(window: Window) -> list[RolloutDevice]:
        return await rollout_view.devices(
            services.postgres,
            rollout_id,
            state=query.state,
            wave=query.wave,
            project_ids=side.project_ids,
            after=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("rollout devices", rollout_id, query.state, query.wave, side.project_ids)
    return await paging.read_page(services, scope, query.page, query.per_page, read, lambda one: [str(one.device_id)])


@endpoint("POST", f"{ONE}/start", doors=BOTH, permission=Permission.ADMINISTER, errors=_ACTION)
async def start_rollout(services: Services, side: WholeScope, rollout_id: UUID) -> Rollout:
    """Start a draft: at once, at its time, or once another person has approved it."""
    return await _act(services, side, rollout_id, "start")


@endpoint(
    "POST",
    f"{ONE}/approve",
    doors=BOTH,
    permission=Permission.ADMINISTER,
    errors={**_ACTION, 403: "By the one who made or started it."},
)
async def approve_rollout(services: Services, side: WholeScope, rollout_id: UUID) -> Rollout:
    """Approve a rollout that somebody else made and started."""
    return await _act(services, side, rollout_id, "approve")


@endpoint("POST", f"{ONE}/pause", doors=BOTH, permission=Permission.ADMINISTER, errors=_ACTION)
async def pause_rollout(services: Services, side: WholeScope, rollout_id: UUID) -> Rollout:
    """Pause a rollout: who has not begun is not offered the firmware any more, who has is left alone."""
    return await _act(services, side, rollout_id, "pause")


@endpoint("POST", f"{ONE}/resume", doors=BOTH, permission=Permission.ADMINISTER, errors=_ACTION)
async def resume_rollout(services: Services, side: WholeScope, rollout_id: UUID) -> Rollout:
    """Go on with a rollout that was paused."""
    return await _act(services, side, rollout_id, "resume")


@endpoint("POST", f"{ONE}/abort", doors=BOTH, permission=Permission.ADMINISTER, errors=_ACTION)
async def abort_rollout(services: Services, side: WholeScope, rollout_id: UUID) -> Rollout:
    """End a rollout: who has not begun is not offered the firmware any more, who has is left alone."""
    return await _act(services, side, rollout_id, "abort")


@endpoint("POST", f"{ONE}/next_wave", doors=BOTH, permission=Permission.ADMINISTER, errors=_ACTION)
async def begin_next_wave(services: Services, side: WholeScope, rollout_id: UUID) -> Rollout:
    """Let the wave pass that waits for a person."""
    return await _act(services, side, rollout_id, "next_wave")


async def reach(services: Services, side: WholeScope, file_id: UUID) -> int:
    """How many devices a rollout of this file would be for, today; shares of waves are of these."""
    async with services.postgres.acquire() as connection, connection.transaction():
        return await plans.reach(connection, side.whose, file_id)


async def _act(services: Services, side: WholeScope, rollout_id: UUID, action: RolloutAction) -> Rollout:
    async with change(services) as changed:
        return await campaigns.act(changed, side.whose, rollout_id, action, by=side.principal.id)


def _window(window: NewRolloutWindow | None) -> RolloutWindow | None:
    return None if window is None else RolloutWindow(**msgspec.structs.asdict(window))


def _waves(waves: list[NewRolloutWave]) -> list[PlannedWave]:
    return [
        PlannedWave(**msgspec.structs.asdict(wave) | {"gate": RolloutGate(**msgspec.structs.asdict(wave.gate))})
        for wave in waves
    ]


ENDPOINTS = (
    list_rollouts,
    create_rollout,
    read_rollout,
    change_rollout,
    list_rollout_devices,
    start_rollout,
    approve_rollout,
    pause_rollout,
    resume_rollout,
    abort_rollout,
    begin_next_wave,
)
