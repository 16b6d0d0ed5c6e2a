"""Rollouts and their waves as a worker reads and moves them on, with the rollout's row locked.

Whoever holds that row is the only one to change the rollout, its waves and its parts; people's actions lock it too.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct

from schemas import audit_log, firmware, ids
from schemas.postgres import Connection
from schemas.rollouts import Channel, PartState, RolloutStatus, positions_below
from workers.rollouts.parts import Terms
from workers.rollouts.waves import Count, Gate, Wave
from workers.rollouts.windows import Window

SLICE = 1_000
"""Devices that one transaction looks at."""
SCAN_MAX = 50_000
"""Devices that are looked at for a wave of labels or of a space, where no index helps."""

_SUBTREE = """
    WITH RECURSIVE below AS (
        SELECT id FROM spaces WHERE id = $5 UNION ALL SELECT s.id FROM spaces s JOIN below ON s.parent_id = below.id)
"""


class Rollout(Struct, kw_only=True):
    """A rollout under way."""

    id: UUID
    organization_id: UUID
    as_vendor: bool
    name: str
    file_id: UUID
    model_id: UUID
    channel: Channel
    downgrade: bool
    source_id: UUID | None
    dynamic: bool
    max_per_minute: int | None
    window: Window | None
    download_before: bool
    report_timeout_s: int
    grace_s: int
    retries: int
    starts_at: datetime | None
    status: RolloutStatus
    wave: int
    created_by: str
    enrolled_after: UUID
    enrolled: bool
    version: str
    version_key: str
    min_version_key: str | None
    checksum: str | None
    signature: str | None
    file_status: str

    @property
    def terms(self) -> Terms:
        """What it asks of every device."""
        return Terms(
            status=self.status,
            channel=self.channel,
            downgrade=self.downgrade,
            retries=self.retries,
            timeout=timedelta(seconds=self.report_timeout_s),
            grace=timedelta(seconds=self.grace_s),
        )


class StoredWave(Struct, kw_only=True):
    """A wave, and who is of it."""

    state: Wave
    percent: float | None
    count: int | None
    labels: dict[str, str] | None
    space_id: UUID | None
    starts_at: datetime | None
    back_to_id: UUID | None
    filled: bool


_UNSETTLED = "settled_at IS NULL AND status NOT IN ('draft', 'waiting_for_approval')"
DUE = f"EXISTS (SELECT FROM rollouts WHERE {_UNSETTLED})"


async def unsettled(connection: Connection) -> list[UUID]:
    """Rollouts that have something left to do, oldest first."""
    rows = await connection.fetch(f"SELECT id FROM rollouts WHERE {_UNSETTLED} ORDER BY id")
    return [row["id"] for row in rows]


async def lock(connection: Connection, rollout_id: UUID) -> Rollout | None:
    """A rollout, locked until the transaction ends; None when another worker or a person has it, or it is settled."""
    row = await connection.fetchrow(
        """SELECT r.*, f.version, f.version_key, f.min_version_key, f.checksum, f.signature, f.status AS file_status
             FROM rollouts r JOIN files f ON f.id = r.file_id
            WHERE r.id = $1 AND r.settled_at IS NULL FOR NO KEY UPDATE OF r SKIP LOCKED""",
        rollout_id,
    )
    if row is None:
        return None
    window = None if row["window_opens"] is None else Window(row["window_opens"], row["window_closes"])
    return Rollout(window=window, **{name: row[name] for name in Rollout.__struct_fields__ if name != "window"})


async def waves(connection: Connection, rollout_id: UUID) -> list[StoredWave]:
    """Its waves in their order."""
    rows = await connection.fetch("SELECT * FROM rollout_waves WHERE rollout_id = $1 ORDER BY number", rollout_id)
    return [
        StoredWave(
            state=Wave(
                number=row["number"],
                status=row["status"],
                gate=Gate(**{name: row[name] for name in Gate.__struct_fields__}),
                soak=timedelta(seconds=row["soak_s"]),
                fired=row["fired_at"] is not None,
                soaking_since=row["soaking_since"],
            ),
            **{name: row[name] for name in StoredWave.__struct_fields__ if name != "state"},
        )
        for row in rows
    ]


async def counts(connection: Connection, rollout_id: UUID) -> dict[int, dict[PartState, Count]]:
    """Its parts by wave and state."""
    rows = await connection.fetch("SELECT * FROM rollout_counts WHERE rollout_id = $1", rollout_id)
    found: dict[int, dict[PartState, Count]] = defaultdict(dict)
    for row in rows:
        found[row["wave"]][row["state"]] = Count(row["devices"], row["begun"])
    return found


async def count(connection: Connection, rollout_id: UUID, changes: Iterable[tuple[int, PartState, int, int]]) -> None:
    """Add to the counts: wave, state, devices more, of them begun."""
    columns = list(zip(*changes, strict=True))
    if columns:
        await connection.execute(
            """INSERT INTO rollout_counts AS c (rollout_id, wave, state, devices, begun)
               SELECT $1, wave, state, sum(devices), sum(begun)
                 FROM unnest($2::int[], $3::text[], $4::bigint[], $5::bigint[]) AS w (wave, state, devices, begun)
                GROUP BY wave, state
               ON CONFLICT (rollout_id, wave, state)
               DO UPDATE SET devices = c.devices + excluded.devices, begun = c.begun + excluded.begun""",
            rollout_id,
            *columns,
        )


async def set_status(
    connection: Connection, rollout: Rollout, status: RolloutStatus, now: datetime, reason: str | None = None
) -> None:
    """Give a rollout another status, by itself and not by a person."""
    rollout.status = status
    await connection.execute(
        """UPDATE rollouts SET status = $2, reason = $4, started_at = coalesce(started_at, $3),
                  ended_at = CASE WHEN $2 IN ('finished', 'aborted') THEN $3::timestamptz END
            WHERE id = $1""",
        rollout.id,
        status,
        now,
        reason,
    )


async def note_gate(connection: Connection, rollout: Rollout, after: dict[str, str], now: datetime) -> None:
    """Write into the audit log of the one who issued the rollout what its gate did."""
    issuer = await connection.fetchrow("SELECT organization_id, as_vendor FROM rollouts WHERE id = $1", rollout.id)
    assert issuer is not None
    side = "partner" if issuer["as_vendor"] else "organization"
    await audit_log.note(
        connection,
        at=now,
        organization_id=issuer["organization_id"],
        action="fire_gate",
        target=f"/core/v1/{side}/rollouts/{rollout.id}",
        after=after,
    )


async def settle(connection: Connection, rollout_id: UUID, now: datetime) -> None:
    """Nothing is left to do."""
    await connection.execute("UPDATE rollouts SET settled_at = $2 WHERE id = $1", rollout_id, now)


async def enrol(connection: Connection, rollout: Rollout, now: datetime) -> int:
    """Enter the next of the devices that the rollout is for; returns how many are new. Begins anew when through.

    Devices that were told of the firmware before it had a rollout hear of it no more.
    """
    settled = rollout.source_id is not None and await connection.fetchval(
        "SELECT settled_at IS NOT NULL FROM rollouts WHERE id = $1", rollout.source_id
    )
    if rollout.source_id is not None:
        found = await connection.fetch(
            """SELECT device_id AS id FROM rollout_devices
                WHERE rollout_id = $1 AND device_id > $2 AND (begun OR state = 'succeeded')
                ORDER BY device_id LIMIT $3""",
            rollout.source_id,
            rollout.enrolled_after,
            SLICE,
        )
    else:
        found = await connection.fetch(
            """SELECT id FROM devices
                WHERE model_id = $1 AND id > $2 AND deleted_at IS NULL AND ($3 OR organization_id = $4)
                ORDER BY id LIMIT $5""",
            rollout.model_id,
            rollout.enrolled_after,
            rollout.as_vendor,
            rollout.organization_id,
            SLICE,
        )
    new = await connection.fetchval(
        """WITH entered AS (
               INSERT INTO rollout_devices (rollout_id, device_id, position)
               SELECT $1, id, rollout_position($1, id) FROM unnest($2::uuid[]) AS d (id) ORDER BY id
               ON CONFLICT DO NOTHING RETURNING 1)
           SELECT count(*) FROM entered""",
        rollout.id,
        [row["id"] for row in found],
    )
    told = await connection.fetch(
        "SELECT id FROM devices WHERE id = ANY($1::uuid[]) AND latest_fw_file_id = $2",
        [row["id"] for row in found],
        rollout.file_id,
    )
    await firmware.choose(connection, [row["id"] for row in told])
    through = len(found) < SLICE
    rollout.enrolled_after = UUID(int=0) if through else found[-1]["id"]
    rollout.enrolled = rollout.enrolled or through
    rollout.dynamic = rollout.dynamic and not (settled and through)
    await connection.execute(
        "UPDATE rollouts SET enrolled_after = $2, enrolled = $3, dynamic = $4 WHERE id = $1",
        rollout.id,
        rollout.enrolled_after,
        rollout.enrolled,
        rollout.dynamic,
    )
    if new:
        await count(connection, rollout.id, [(0, "waiting", new, 0)])
        await connection.execute(
            "UPDATE rollout_waves SET filled = false WHERE rollout_id = $1 AND number = $2", rollout.id, rollout.wave
        )
    return int(new)


async def fill(connection: Connection, rollout: Rollout, wave: StoredWave, members: int) -> int:
    """Put more devices into a wave that has `members`; returns how many. Once in a wave they stay in it."""
    number, most = wave.state.number, SLICE
    argument: object
    if wave.percent is not None:
        which, argument = "p.position < $5", positions_below(wave.percent)
    elif wave.count is not None:
        which, argument, most = "$5::bigint IS NOT NULL", 0, max(0, min(SLICE, wave.count - members))
    elif wave.labels is not None:
        which = """NOT EXISTS (SELECT FROM json_each_text($5::json) w
                                WHERE d.labels ->> w.key IS DISTINCT FROM w.value)"""
        argument, most = wave.labels, SCAN_MAX
    else:
        which, argument, most = "d.space_id IN (SELECT id FROM below)", wave.space_id, SCAN_MAX
    with_spaces = _SUBTREE if wave.labels is None and wave.percent is None and wave.count is None else ""
    put: int = await connection.fetchval(
        f"""{with_spaces}{"," if with_spaces else "WITH"} chosen AS (
               SELECT p.device_id FROM rollout_devices p JOIN devices d ON d.id = p.device_id
                WHERE p.rollout_id = $1 AND p.state = 'waiting' AND p.wave = 0 AND {which}
                ORDER BY p.position LIMIT $3),
           put AS (
               UPDATE rollout_devices SET wave = $2
                WHERE rollout_id = $1 AND device_id IN (SELECT device_id FROM chosen) RETURNING 1),
           noted AS (
               UPDATE rollout_waves SET filled = (SELECT count(*) FROM chosen) < $4
                WHERE rollout_id = $1 AND number = $2)
           SELECT count(*) FROM put""",
        rollout.id,
        number,
        most,
        SLICE if wave.percent is not None or wave.count is not None else SCAN_MAX,
        argument,
    )
    if put:
        await count(connection, rollout.id, [(0, "waiting", -put, 0), (number, "waiting", put, 0)])
    return put


async def begin_wave(connection: Connection, rollout: Rollout, number: int) -> None:
    """Let the next wave begin."""
    rollout.wave = number
    await connection.execute("UPDATE rollouts SET wave = $2 WHERE id = $1", rollout.id, number)
    await connection.execute(
        "UPDATE rollout_waves SET status = 'open' WHERE rollout_id = $1 AND number = $2", rollout.id, number
    )


async def store_wave(connection: Connection, rollout_id: UUID, wave: Wave, now: datetime) -> None:
    """What became of the wave that is under way."""
    await connection.execute(
        """UPDATE rollout_waves SET status = $3, soaking_since = $4,
                  fired_at = CASE WHEN $5 THEN coalesce(fired_at, $6) END
            WHERE rollout_id = $1 AND number = $2""",
        rollout_id,
        wave.number,
        wave.status,
        wave.soaking_since,
        wave.fired,
        now,
    )


async def end_waiting(connection: Connection, rollout_id: UUID, outcome: PartState, reason: str, now: datetime) -> int:
    """Let parts that wait end without having been offered anything; returns how many."""
    rows = await connection.fetch(
        """WITH ended AS (
               UPDATE rollout_devices SET state = $2, reason = $3, due_at = NULL, ended_at = $4
                WHERE rollout_id = $1 AND device_id IN (
                    SELECT device_id FROM rollout_devices WHERE rollout_id = $1 AND state = 'waiting'
                     ORDER BY device_id LIMIT $5 FOR UPDATE) RETURNING wave)
           SELECT wave, count(*) AS devices FROM ended GROUP BY wave""",
        rollout_id,
        outcome,
        reason,
        now,
        SLICE,
    )
    changes: list[tuple[int, PartState, int, int]] = []
    for row in rows:
        changes += [(row["wave"], "waiting", -row["devices"], 0), (row["wave"], outcome, row["devices"], 0)]
    await count(connection, rollout_id, changes)
    return sum(row["devices"] for row in rows)


async def take_back(connection: Connection, failed: Rollout, file_id: UUID, now: datetime) -> UUID:
    """A rollout that brings the devices which another one has reached back to an older version, all at once."""
    rollout_id = ids.new_id()
    row: Any = await connection.fetchrow("SELECT version FROM files WHERE id = $1", file_id)
    await connection.execute(
        """INSERT INTO rollouts (id, organization_id, as_vendor, name, file_id, model_id, channel, downgrade, source_id,
                                 dynamic, report_timeout_s, grace_s, retries, status, created_by, started_by,
                                 created_at, started_at)
           VALUES ($1, $2, $3, $4, $5, $6, 'command', true, $7, true, $8, $9, $10, 'running', $11, $11, $12, $12)""",
        rollout_id,
        failed.organization_id,
        failed.as_vendor,
        f"{failed.name[:200]}: back to {row['version'][:40]}",
        file_id,
        failed.model_id,
        failed.id,
        failed.report_timeout_s,
        failed.grace_s,
        failed.retries,
        failed.created_by,
        now,
    )
    await connection.execute("INSERT INTO rollout_waves (rollout_id, number, percent) VALUES ($1, 1, 100)", rollout_id)
    return rollout_id
