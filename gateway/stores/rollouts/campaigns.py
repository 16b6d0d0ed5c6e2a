"""Rollouts as those see them who make them: made, changed, started, paused, ended.

What people do is done with the rollout's row locked, as is all that the worker does by itself. Pausing and aborting
are heeded at once: whoever asks for firmware or for a command is answered by the rollout's status as it stands, and the
prepared replies of the first devices are rewritten with the change, those of others by the worker.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.refusals import Conflict, DoesNotFit, NotFound, NotPermitted
from gateway.stores.change import REPLIES_MAX, Change
from gateway.stores.rollouts import plans
from gateway.stores.rollouts.plans import Issuer, Plan, PlannedWave, RolloutGate
from schemas import firmware, ids, rollouts
from schemas.postgres import Connection, Executor
from schemas.rollouts import ENDED, Channel, NotPossible, PartState, RolloutAction, RolloutStatus, WaveStatus

UNKNOWN = "Rollout not found"
OPEN_MAX = 200
"""Rollouts of an organization that have not ended."""
_COLUMNS = """r.id, r.name, r.description, r.file_id, f.version, r.model_id, r.channel, r.downgrade, r.source_id,
              r.dynamic, r.max_per_minute, r.window_opens, r.window_closes, r.download_before, r.report_timeout_s,
              r.grace_s, r.retries, r.needs_approval, r.starts_at, r.status, r.reason, r.wave, r.created_by,
              r.started_by, r.approved_by, r.created_at, r.started_at, r.ended_at"""
_OF_ISSUER = "r.organization_id = $1 AND r.as_vendor = $2"
_WAVE = """(rollout_id, number, percent, count, labels, space_id, starts_at, soak_s, min_reported, failed_percent,
            failed_count, on_failure, back_to_id, on_success)"""


class RolloutCounts(Struct):
    """Devices by state: those that wait or are at it, and one outcome for each that is through."""

    waiting: int = 0
    offered: int = 0
    downloading: int = 0
    installing: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    skipped: int = 0
    cancelled: int = 0


class RolloutWave(Struct, kw_only=True):
    """A wave: who is of it, how far it is, and what became of its devices."""

    number: int
    percent: float | None
    count: int | None
    labels: dict[str, str] | None
    space_id: UUID | None
    starts_at: datetime | None
    soak_s: int
    gate: RolloutGate
    status: WaveStatus
    fired_at: datetime | None
    soaking_since: datetime | None
    counts: RolloutCounts

    @property
    def planned(self) -> PlannedWave:
        """What it was before it began."""
        return PlannedWave(**{name: getattr(self, name) for name in PlannedWave.__struct_fields__})


class RolloutSummary(Struct, kw_only=True):
    """A rollout. `wave` is the one that is under way, 0 before the first; `taken_back_from` the rollout whose gate made
    this one.
    """

    id: UUID
    name: str
    description: str
    file_id: UUID
    version: str
    model_id: UUID
    channel: Channel
    dynamic: bool
    max_per_minute: int | None
    window: plans.RolloutWindow | None
    report_timeout_s: int
    grace_s: int
    retries: int
    needs_approval: bool
    starts_at: datetime | None
    status: RolloutStatus
    reason: str | None
    wave: int
    taken_back_from: UUID | None
    created_by: str
    started_by: str | None
    approved_by: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    counts: RolloutCounts


class Rollout(RolloutSummary, kw_only=True):
    """A rollout with its waves."""

    waves: list[RolloutWave]


class RolloutDevice(Struct, kw_only=True):
    """A device's part in a rollout; `wave` is 0 while it is of none."""

    device_id: UUID
    sn: str | None
    firmware_version: str
    wave: int
    state: PartState
    reason: str | None
    attempts: int
    offered_at: datetime | None
    ended_at: datetime | None


class RolloutChanges(Struct, kw_only=True):
    """What changes of a rollout; what is absent stays. In a draft that may be anything."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    file_id: UUID | UnsetType = UNSET
    channel: Channel | UnsetType = UNSET
    dynamic: bool | UnsetType = UNSET
    max_per_minute: int | UnsetType | None = UNSET
    window: plans.RolloutWindow | UnsetType | None = UNSET
    report_timeout_s: int | UnsetType = UNSET
    grace_s: int | UnsetType = UNSET
    retries: int | UnsetType = UNSET
    needs_approval: bool | UnsetType = UNSET
    starts_at: datetime | UnsetType | None = UNSET
    waves: Sequence[PlannedWave] | UnsetType = UNSET


_ALWAYS = {"name", "description", "max_per_minute", "window", "report_timeout_s", "grace_s", "retries"}
_BEFORE_IT_RUNS = {*_ALWAYS, "waves", "starts_at"}


async def create(change: Change, issuer: Issuer, plan: Plan, *, by: str) -> Rollout:
    """A new rollout, a draft. From now on its firmware is offered to whom a rollout of it has reached."""
    connection = change.connection
    model_id = await plans.check(connection, issuer, plan)
    opened = await connection.fetchval(
        f"SELECT count(*) FROM rollouts r WHERE {_OF_ISSUER} AND r.status NOT IN ('finished', 'aborted')", *issuer
    )
    if opened >= OPEN_MAX:
        raise DoesNotFit(f"An organization has at most {OPEN_MAX} rollouts that have not ended")
    rollout_id = ids.new_id()
    await connection.execute(
        """INSERT INTO rollouts (id, organization_id, as_vendor, name, description, file_id, model_id, channel, dynamic,
                                 max_per_minute, window_opens, window_closes, download_before, report_timeout_s,
                                 grace_s, retries, needs_approval, starts_at, created_by, created_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)""",
        rollout_id,
        *issuer,
        plan.name,
        plan.description,
        plan.file_id,
        model_id,
        plan.channel,
        plan.dynamic,
        plan.max_per_minute,
        *_window(plan.window),
        plan.report_timeout_s,
        plan.grace_s,
        plan.retries,
        plan.needs_approval,
        plan.starts_at,
        by,
        change.moment,
    )
    await _put_waves(connection, rollout_id, plan.waves, after=0)
    await firmware.begin_sweep(connection, plan.file_id, model_id)
    return await read(connection, issuer, rollout_id)


async def page(
    connection: Executor,
    issuer: Issuer,
    *,
    status: RolloutStatus | None,
    file_id: UUID | None,
    before: UUID | None,
    offset: int,
    limit: int,
) -> list[RolloutSummary]:
    """The issuer's rollouts, newest first."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM rollouts r JOIN files f ON f.id = r.file_id
             WHERE {_OF_ISSUER} AND ($3::text IS NULL OR r.status = $3) AND ($4::uuid IS NULL OR r.file_id = $4)
               AND ($5::uuid IS NULL OR r.id < $5)
             ORDER BY r.id DESC OFFSET $6 LIMIT $7""",
        *issuer,
        status,
        file_id,
        before,
        offset,
        limit,
    )
    counts = await _counts(connection, [row["id"] for row in rows])
    return [RolloutSummary(**_members(row), counts=_sum(counts.get(row["id"], {}))) for row in rows]


async def read(connection: Executor, issuer: Issuer, rollout_id: UUID) -> Rollout:
    """One rollout with its waves. Raises NotFound."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM rollouts r JOIN files f ON f.id = r.file_id WHERE {_OF_ISSUER} AND r.id = $3",
        *issuer,
        rollout_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    counts = (await _counts(connection, [rollout_id])).get(rollout_id, {})
    waves = await connection.fetch("SELECT * FROM rollout_waves WHERE rollout_id = $1 ORDER BY number", rollout_id)
    return Rollout(
        **_members(row),
        counts=_sum(counts),
        waves=[
            RolloutWave(
                **{n: wave[n] for n in RolloutWave.__struct_fields__ if n not in ("gate", "counts")},
                gate=RolloutGate(
                    back_to_file_id=wave["back_to_id"],
                    **{n: wave[n] for n in RolloutGate.__struct_fields__ if n != "back_to_file_id"},
                ),
                counts=RolloutCounts(**counts.get(wave["number"], {})),
            )
            for wave in waves
        ],
    )


async def check_issued(connection: Executor, issuer: Issuer, rollout_id: UUID) -> None:
    """Raises NotFound unless the rollout is the issuer's."""
    if not await connection.fetchval(
        f"SELECT true FROM rollouts r WHERE {_OF_ISSUER} AND r.id = $3", *issuer, rollout_id
    ):
        raise NotFound(UNKNOWN)


async def devices(
    connection: Executor,
    rollout_id: UUID,
    *,
    state: PartState | None,
    wave: int | None,
    after: UUID | None,
    offset: int,
    limit: int,
) -> list[RolloutDevice]:
    """The devices of a rollout that the caller may see, in the order of their ids."""
    rows = await connection.fetch(
        """SELECT p.device_id, d.sn, d.firmware_version, p.wave, p.state, p.reason, p.attempts, p.offered_at, p.ended_at
             FROM rollout_devices p JOIN devices d ON d.id = p.device_id
            WHERE p.rollout_id = $1 AND ($2::text IS NULL OR p.state = $2) AND ($3::int IS NULL OR p.wave = $3)
              AND ($4::uuid IS NULL OR p.device_id > $4)
            ORDER BY p.device_id OFFSET $5 LIMIT $6""",
        rollout_id,
        state,
        wave,
        after,
        offset,
        limit,
    )
    return [RolloutDevice(**row) for row in rows]


async def update(change: Change, issuer: Issuer, rollout_id: UUID, changes: RolloutChanges) -> Rollout:
    """Change a rollout while that may be. Raises NotFound, Conflict, DoesNotFit."""
    connection = change.connection
    await _lock(connection, issuer, rollout_id)
    was = await read(connection, issuer, rollout_id)
    given = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not UNSET}
    _check_may_change(was, set(given))
    planned = [wave.planned for wave in was.waves]
    now = {name: getattr(was, name) for name in Plan.__struct_fields__} | {"waves": planned} | given
    plan = Plan(**now)
    if list(plan.waves[: was.wave]) != planned[: was.wave]:
        raise Conflict("Waves that have begun cannot be changed: send them as they are, before the others")
    model_id = was.model_id
    if was.status == "draft":
        model_id = await plans.check(connection, issuer, plan)
    elif "waves" in given:
        await plans.check_waves(connection, issuer, plan.waves, was.model_id, was.file_id)
    await connection.execute(
        """UPDATE rollouts SET name = $2, description = $3, file_id = $4, model_id = $5, channel = $6, dynamic = $7,
                  max_per_minute = $8, window_opens = $9, window_closes = $10, download_before = $11,
                  report_timeout_s = $12, grace_s = $13, retries = $14, needs_approval = $15, starts_at = $16
            WHERE id = $1""",
        rollout_id,
        plan.name,
        plan.description,
        plan.file_id,
        model_id,
        plan.channel,
        plan.dynamic,
        plan.max_per_minute,
        *_window(plan.window),
        plan.report_timeout_s,
        plan.grace_s,
        plan.retries,
        plan.needs_approval,
        plan.starts_at,
    )
    if "waves" in given:
        await _put_waves(connection, rollout_id, plan.waves, after=was.wave)
    if plan.file_id != was.file_id:
        await firmware.begin_sweep(connection, was.file_id, was.model_id)
        await firmware.begin_sweep(connection, plan.file_id, model_id)
    return await read(connection, issuer, rollout_id)


async def act(change: Change, issuer: Issuer, rollout_id: UUID, action: RolloutAction, *, by: str) -> Rollout:
    """Do what a person asks for; what was done already is done. Raises NotFound, Conflict, NotPermitted."""
    connection = change.connection
    row = await _lock(connection, issuer, rollout_id)
    try:
        status = rollouts.after(
            action,
            row["status"],
            needs_approval=row["needs_approval"],
            starts_at=row["starts_at"],
            now=change.moment,
        )
    except NotPossible:
        verb, is_now = action.replace("_", " "), row["status"].replace("_", " ")
        raise Conflict(f"Rollout is {is_now}: {verb} is not possible") from None
    if action == "next_wave":
        await _let_pass(connection, rollout_id, row["wave"])
    elif status != row["status"]:
        if action in ("start", "approve", "resume"):
            await _check_released(connection, row["file_id"])
        if action == "approve" and by in (row["created_by"], row["started_by"]):
            raise NotPermitted("A rollout is approved by another person than the one who made or started it")
        await connection.execute(
            """UPDATE rollouts SET status = $2,
                      reason = CASE WHEN $2 IN ('paused', 'aborted') THEN $2 || ' by ' || $4 END,
                      started_by = CASE WHEN $3 = 'start' THEN $4 ELSE started_by END,
                      approved_by = CASE WHEN $3 = 'approve' THEN $4 ELSE approved_by END,
                      started_at = CASE WHEN $2 = 'running' THEN coalesce(started_at, $5) ELSE started_at END,
                      ended_at = CASE WHEN $2 = 'aborted' THEN $5::timestamptz END
                WHERE id = $1""",
            rollout_id,
            status,
            action,
            by,
            change.moment,
        )
        if status in ("paused", "aborted"):
            await _take_back(change, rollout_id)
        if status == "aborted" and row["started_at"] is None:
            await firmware.begin_sweep(connection, row["file_id"], row["model_id"])
    return await read(connection, issuer, rollout_id)


async def _take_back(change: Change, rollout_id: UUID) -> None:
    """Offer the firmware no more to devices that have not begun, so many at once; the worker does the rest."""
    rows = await change.connection.fetch(
        "SELECT device_id FROM rollout_devices WHERE rollout_id = $1 AND state = 'offered' LIMIT $2",
        rollout_id,
        REPLIES_MAX,
    )
    change.touched(*await firmware.choose(change.connection, [row["device_id"] for row in rows]))


async def _let_pass(connection: Connection, rollout_id: UUID, wave: int) -> None:
    passed = await connection.fetchval(
        """UPDATE rollout_waves SET status = 'passed'
            WHERE rollout_id = $1 AND number = $2 AND status = 'waiting' RETURNING true""",
        rollout_id,
        wave,
    )
    if not passed:
        raise Conflict(f"Wave {wave} does not wait for a person" if wave else "No wave has begun yet")


async def _check_released(connection: Connection, file_id: UUID) -> None:
    if await connection.fetchval("SELECT status FROM files WHERE id = $1 FOR SHARE", file_id) != "released":
        raise Conflict("File is not released: release it first; it is offered only to whom its rollout reaches")


async def _lock(connection: Connection, issuer: Issuer, rollout_id: UUID) -> Any:
    row = await connection.fetchrow(
        f"SELECT r.* FROM rollouts r WHERE {_OF_ISSUER} AND r.id = $3 FOR NO KEY UPDATE", *issuer, rollout_id
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return row


def _check_may_change(was: Rollout, given: set[str]) -> None:
    if was.status in ENDED:
        raise Conflict(f"Rollout is {was.status}: it cannot be changed any more")
    if was.status == "waiting_for_approval":
        raise Conflict("Rollout is waiting for approval: what is approved must be what was seen")
    allowed = given if was.status == "draft" else _ALWAYS if was.needs_approval else _BEFORE_IT_RUNS
    if fixed := sorted(given - allowed):
        raise Conflict(f"{fixed[0].replace('_', ' ').capitalize()} can be changed only in a draft")


async def _put_waves(connection: Connection, rollout_id: UUID, waves: Sequence[PlannedWave], *, after: int) -> None:
    """Replace the waves behind the first so many, which have begun."""
    await connection.execute("DELETE FROM rollout_waves WHERE rollout_id = $1 AND number > $2", rollout_id, after)
    await connection.executemany(
        f"INSERT INTO rollout_waves {_WAVE} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        [
            (
                rollout_id,
                number,
                wave.percent,
                wave.count,
                wave.labels,
                wave.space_id,
                wave.starts_at,
                wave.soak_s,
                wave.gate.min_reported,
                wave.gate.failed_percent,
                wave.gate.failed_count,
                wave.gate.on_failure,
                wave.gate.back_to_file_id,
                wave.gate.on_success,
            )
            for number, wave in enumerate(waves, start=1)
            if number > after
        ],
    )


async def _counts(connection: Executor, rollout_ids: Sequence[UUID]) -> dict[UUID, dict[int, dict[str, int]]]:
    """Devices by rollout, wave and state."""
    rows = await connection.fetch(
        "SELECT rollout_id, wave, state, devices FROM rollout_counts WHERE rollout_id = ANY($1::uuid[])", rollout_ids
    )
    found: dict[UUID, dict[int, dict[str, int]]] = {}
    for row in rows:
        found.setdefault(row["rollout_id"], {}).setdefault(row["wave"], {})[row["state"]] = row["devices"]
    return found


def _sum(by_wave: dict[int, dict[str, int]]) -> RolloutCounts:
    return RolloutCounts(**{state: sum(one.get(state, 0) for one in by_wave.values()) for state in get_args(PartState)})


def _window(window: plans.RolloutWindow | None) -> tuple[Any, Any, bool]:
    return (None, None, False) if window is None else (window.opens, window.closes, window.download_before)


def _members(row: Any) -> dict[str, Any]:
    window = None
    if row["window_opens"] is not None:
        window = plans.RolloutWindow(
            opens=row["window_opens"], closes=row["window_closes"], download_before=row["download_before"]
        )
    derived = {"window": window, "taken_back_from": row["source_id"]}
    return {n: row[n] for n in RolloutSummary.__struct_fields__ if n not in ("counts", *derived)} | derived
