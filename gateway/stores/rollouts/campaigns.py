"""Rollouts in the hands of people: made, changed, started, paused, ended.

What people do is done with the rollout's row locked, as is all that the worker does by itself. Pausing and aborting
are heeded at once: whoever asks for firmware or for a command is answered by the rollout's status as it stands, and the
prepared replies of the first devices are rewritten with the change, those of others by the worker.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.refusals import Conflict, DoesNotFit, NotFound, NotPermitted
from gateway.stores.change import REPLIES_MAX, Change
from gateway.stores.rollouts import plans
from gateway.stores.rollouts.plans import Plan, PlannedWave
from gateway.stores.rollouts.rollout_view import OF_ISSUER, UNKNOWN, Rollout, read
from gateway.stores.whose import Whose
from schemas import firmware, ids, rollouts
from schemas.postgres import Connection
from schemas.rollouts import ENDED, Channel, NotPossible, RolloutAction

OPEN_MAX = 200
"""Rollouts of an organization that have not ended."""
_WAVE = """(rollout_id, number, percent, count, labels, space_id, starts_at, soak_s, min_reported, failed_percent,
            failed_count, on_failure, back_to_id, on_success)"""


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


async def create(change: Change, issuer: Whose, plan: Plan, *, by: str) -> Rollout:
    """A new rollout, a draft. From now on its firmware is offered to whom a rollout of it has reached."""
    connection = change.connection
    model_id = await plans.check(connection, issuer, plan)
    opened = await connection.fetchval(
        f"SELECT count(*) FROM rollouts r WHERE {OF_ISSUER} AND r.status NOT IN ('finished', 'aborted')", *issuer
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


async def update(change: Change, issuer: Whose, rollout_id: UUID, changes: RolloutChanges) -> Rollout:
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


async def act(change: Change, issuer: Whose, rollout_id: UUID, action: RolloutAction, *, by: str) -> Rollout:
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


async def _lock(connection: Connection, issuer: Whose, rollout_id: UUID) -> Any:
    row = await connection.fetchrow(
        f"SELECT r.* FROM rollouts r WHERE {OF_ISSUER} AND r.id = $3 FOR NO KEY UPDATE", *issuer, rollout_id
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


def _window(window: plans.RolloutWindow | None) -> tuple[Any, Any, bool]:
    return (None, None, False) if window is None else (window.opens, window.closes, window.download_before)
