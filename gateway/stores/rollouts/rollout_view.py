"""Rollouts as those see them who made them: with their waves, and their devices counted by what became of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound
from gateway.stores.rollouts.plans import PlannedWave, RolloutGate, RolloutWindow
from gateway.stores.whose import Whose
from schemas.postgres import Executor
from schemas.rollouts import Channel, PartState, RolloutStatus, WaveStatus

UNKNOWN = "Rollout not found"
_COLUMNS = """r.id, r.name, r.description, r.file_id, f.version, r.model_id, r.channel, r.downgrade, r.source_id,
              r.dynamic, r.max_per_minute, r.window_opens, r.window_closes, r.download_before, r.report_timeout_s,
              r.grace_s, r.retries, r.needs_approval, r.starts_at, r.status, r.reason, r.wave, r.created_by,
              r.started_by, r.approved_by, r.created_at, r.started_at, r.ended_at"""
OF_ISSUER = "r.organization_id = $1 AND r.as_vendor = $2"
"""SQL that is true of rollouts `r` of an issuer."""


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
    window: RolloutWindow | None
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


async def page(
    connection: Executor,
    issuer: Whose,
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
             WHERE {OF_ISSUER} AND ($3::text IS NULL OR r.status = $3) AND ($4::uuid IS NULL OR r.file_id = $4)
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


async def read(connection: Executor, issuer: Whose, rollout_id: UUID) -> Rollout:
    """One rollout with its waves. Raises NotFound."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM rollouts r JOIN files f ON f.id = r.file_id WHERE {OF_ISSUER} AND r.id = $3",
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


async def check_issued(connection: Executor, issuer: Whose, rollout_id: UUID) -> None:
    """Raises NotFound unless the rollout is the issuer's."""
    if not await connection.fetchval(
        f"SELECT true FROM rollouts r WHERE {OF_ISSUER} AND r.id = $3", *issuer, rollout_id
    ):
        raise NotFound(UNKNOWN)


async def devices(
    connection: Executor,
    rollout_id: UUID,
    *,
    state: PartState | None,
    wave: int | None,
    project_ids: Sequence[UUID] | None = None,
    after: UUID | None,
    offset: int,
    limit: int,
) -> list[RolloutDevice]:
    """The devices of a rollout, all or those in these projects, in the order of their ids."""
    rows = await connection.fetch(
        """SELECT p.device_id, d.sn, d.firmware_version, p.wave, p.state, p.reason, p.attempts, p.offered_at, p.ended_at
             FROM rollout_devices p JOIN devices d ON d.id = p.device_id
            WHERE p.rollout_id = $1 AND ($2::text IS NULL OR p.state = $2) AND ($3::int IS NULL OR p.wave = $3)
              AND ($4::uuid IS NULL OR p.device_id > $4) AND ($7::uuid[] IS NULL OR d.project_id = ANY($7))
            ORDER BY p.device_id OFFSET $5 LIMIT $6""",
        rollout_id,
        state,
        wave,
        after,
        offset,
        limit,
        project_ids,
    )
    return [RolloutDevice(**row) for row in rows]


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


def _members(row: Any) -> dict[str, Any]:
    window = None
    if row["window_opens"] is not None:
        window = RolloutWindow(
            opens=row["window_opens"], closes=row["window_closes"], download_before=row["download_before"]
        )
    derived = {"window": window, "taken_back_from": row["source_id"]}
    return {n: row[n] for n in RolloutSummary.__struct_fields__ if n not in ("counts", *derived)} | derived
