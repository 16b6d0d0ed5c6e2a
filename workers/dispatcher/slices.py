"""One slice of a job on a connector's queue: a short transaction that does a part of it and moves the job's place.

A slice looks at so many events or devices and no more, so that the connector is held for some milliseconds. What it did
and how far it came are committed together: a process that dies leaves a job that goes on where it was. Whoever works on
a job locks its connector first and then the job, as all do who change it; a connector that somebody holds is left for
another time.
"""

from typing import Any, NamedTuple

from schemas.archive import listing
from schemas.events import EventType
from schemas.postgres import Connection
from workers.dispatcher.moved import Piece

EVENTS = 2_000
"""Events of the log that one slice looks at, shared by its shards; at least `EVENTS_OF_SHARD_MIN` of each."""
EVENTS_OF_SHARD_MIN = 50
DEVICES = 400
ROWS = 1_000
"""Waiting rows that one slice ends."""
DUE_MAX = 5_000
"""A job puts nothing more into a queue in which so many rows are due: it goes on at the pace of the receiver."""
JOBS_KEPT = 100
"""Of each connector; the newest."""


class Slice(NamedTuple):
    """What became of one slice."""

    worked: bool
    """Whether it did anything: the connector may be held, or its queue full."""
    ended: bool = False


async def work(
    connection: Connection, job_id: int, connector_id: str, piece: Piece | None = None, *, alone: bool = False
) -> Slice:
    """Do the next slice of a job; of a replay that reads files first, with the `piece` that was read for it.

    With `alone` each statement looks at the log of one shard.
    """
    async with connection.transaction():
        connector = await connection.fetchrow(
            "SELECT id, project_id FROM data_connectors WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED", connector_id
        )
        job = await connection.fetchrow(
            "SELECT * FROM connector_jobs WHERE id = $1 AND state = 'RUNNING' FOR UPDATE", job_id
        )
        if connector is None or job is None:
            return Slice(worked=False)
        if job["kind"] == "drop":
            ended = await _drop(connection, connector, job, alone=alone)
        elif await _is_full(connection, connector_id):
            return Slice(worked=False)
        elif job["kind"] == "replay":
            ended = await _replay(connection, connector, job, piece, alone=alone)
        else:
            ended = await _synchronize(connection, connector, job)
        if ended:
            await _end(connection, job)
            if connector["project_id"] is None:
                await _remove(connection, connector_id)
        return Slice(worked=True, ended=ended)


async def _is_full(connection: Connection, connector_id: str) -> bool:
    due: int = await connection.fetchval(
        """SELECT count(*) FROM (SELECT FROM waiting_deliveries WHERE connector_id = $1 AND next_at <= now()
                                  ORDER BY connector_id, next_at LIMIT $2) AS due""",
        connector_id,
        DUE_MAX,
    )
    return due >= DUE_MAX


async def _remove(connection: Connection, connector_id: str) -> None:
    """A deleted connector goes when nothing is left of what it owed."""
    await connection.execute(
        """DELETE FROM data_connectors WHERE id = $1
              AND NOT EXISTS (SELECT FROM connector_jobs WHERE connector_id = $1 AND state = 'RUNNING')""",
        connector_id,
    )


async def _end(connection: Connection, job: Any) -> None:
    await connection.execute("UPDATE connector_jobs SET state = 'DONE', ended_at = now() WHERE id = $1", job["id"])
    await connection.execute(
        """DELETE FROM connector_jobs WHERE connector_id = $1 AND state <> 'RUNNING' AND id <=
               (SELECT id FROM connector_jobs WHERE connector_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)""",
        job["connector_id"],
        JOBS_KEPT,
    )


# What a disabled connector owed ------------------------------------------------------------------------------


async def _drop(connection: Connection, connector: Any, job: Any, *, alone: bool) -> bool:
    """First the rows that waited, since those of a connector that is active again are read only without them."""
    if job["waiting_id"]:
        dropped: int = await connection.fetchval(
            """WITH gone AS (
                   DELETE FROM waiting_deliveries WHERE id IN
                       (SELECT id FROM waiting_deliveries WHERE connector_id = $1 AND id <= $2 LIMIT $3)
                   RETURNING 1)
               SELECT count(*) FROM gone""",
            connector["id"],
            job["waiting_id"],
            ROWS,
        )
        if dropped < ROWS:
            await connection.execute("UPDATE connector_jobs SET waiting_id = 0 WHERE id = $1", job["id"])
        await _count(connection, job, accepted=0, dropped=dropped, events=dropped, passed=0)
        return False
    spans = await _spans(connection, job)
    looked = await _look(
        connection,
        f"""WITH looked AS MATERIALIZED ({_LOOKED})
            SELECT shard, count(*) AS looked, max(seq) AS last, count(*) FILTER (WHERE {_OF_TYPE}) AS events
              FROM looked GROUP BY shard""",
        spans,
        connector["project_id"],
        _limit(spans),
        job["event_types"],
        alone=alone,
    )
    dropped, (passed, left) = sum(row["events"] for row in looked), await _pass(connection, job, spans, looked)
    await _count(connection, job, accepted=dropped, dropped=dropped, events=dropped, passed=passed)
    return not left


# Putting into the queue --------------------------------------------------------------------------------------


async def _replay(connection: Connection, connector: Any, job: Any, piece: Piece | None, *, alone: bool) -> bool:
    if not job["total"]:
        rows = await listing.list_for_job(
            connection, job["id"], connector["project_id"], job["start_at"], job["end_at"]
        )
        await _narrow(connection, connector, job, rows, alone=alone)
    if piece is not None:
        await _replay_moved(connection, connector, job, piece)
        return False
    if await listing.next_of_job(connection, job["id"]) is not None:
        return False
    spans = await _spans(connection, job)
    looked = await _look(
        connection,
        f"""WITH looked AS MATERIALIZED ({_LOOKED}), owed AS (
                INSERT INTO waiting_deliveries
                       (connector_id, shard, seq, stored_at, cause, owed_since, next_at, device_id)
                SELECT $8, shard, seq, stored_at, 'replay', now(), now(), device_id FROM looked
                 WHERE ts >= $9 AND ts < $10 AND {_OF_TYPE}
                RETURNING shard)
            SELECT shard, count(*) AS looked, max(seq) AS last,
                   (SELECT count(*) FROM owed WHERE owed.shard = looked.shard) AS events
              FROM looked GROUP BY shard""",
        spans,
        connector["project_id"],
        _limit(spans),
        job["event_types"],
        connector["id"],
        job["start_at"],
        job["end_at"],
        alone=alone,
    )
    owed, (passed, left) = sum(row["events"] for row in looked), await _pass(connection, job, spans, looked)
    await _count(connection, job, accepted=owed, dropped=0, events=owed, passed=passed)
    return not left


async def _replay_moved(connection: Connection, connector: Any, job: Any, piece: Piece) -> None:
    """Owe the rows of a file that fit, in its order."""
    if not await listing.pass_on(connection, job["id"], piece.file_id, piece.first, piece.next):
        return
    fitting = [
        row
        for row in piece.rows
        if job["start_at"] <= row["ts"] < job["end_at"]
        and (not job["event_types"] or row["type"] in job["event_types"])
    ]
    await connection.execute(
        """INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, owed_since, next_at, device_id)
           SELECT $1, $2, e.seq, e.stored_at, 'replay', now(), now(), e.device_id
             FROM unnest($3::bigint[], $4::timestamptz[], $5::uuid[]) AS e (seq, stored_at, device_id)""",
        connector["id"],
        piece.shard,
        [row["seq"] for row in fitting],
        [row["stored_at"] for row in fitting],
        [row["device_id"] for row in fitting],
    )
    owed = len(fitting)
    await _count(connection, job, accepted=owed, dropped=0, events=owed, passed=len(piece.rows))


async def _synchronize(connection: Connection, connector: Any, job: Any) -> bool:
    if not job["total"]:
        devices = await connection.fetchval(
            "SELECT count(*) FROM devices WHERE project_id = $1 AND deleted_at IS NULL", connector["project_id"]
        )
        await connection.execute("UPDATE connector_jobs SET total = $2 WHERE id = $1", job["id"], devices)
    some = await connection.fetch(
        """SELECT shard, id FROM devices
            WHERE project_id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR id > $2)
            ORDER BY project_id, id LIMIT $3""",
        connector["project_id"],
        job["device_id"],
        DEVICES,
    )
    if not some:
        return True
    shards, device_ids = [device["shard"] for device in some], [device["id"] for device in some]
    owed: int = await connection.fetchval(
        f"WITH owed AS ({_OWE.format(newest=_REPORTED)}) SELECT count(*) FROM owed",
        connector["id"],
        shards,
        device_ids,
        job["event_types"],
    )
    if not job["event_types"] or EventType.TELEMETRY in job["event_types"]:
        owed += await connection.fetchval(
            f"WITH owed AS ({_OWE.format(newest=_MESSAGES)}) SELECT count(*) FROM owed",
            connector["id"],
            shards,
            device_ids,
        )
    await connection.execute("UPDATE connector_jobs SET device_id = $2 WHERE id = $1", job["id"], device_ids[-1])
    await _count(connection, job, accepted=owed, dropped=0, events=owed, passed=len(some))
    return len(some) < DEVICES


_OWE = """
    INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, owed_since, next_at, device_id)
    SELECT $1, e.shard, e.seq, e.stored_at, 'sync', now(), now(), e.device_id
      FROM unnest($2::smallint[], $3::uuid[]) AS d (shard, id) CROSS JOIN LATERAL ({newest}) e
    RETURNING 1
"""
_REPORTED = """
    SELECT shard, seq, stored_at, device_id FROM device_reported
     WHERE shard = d.shard AND shard = ANY($2) AND device_id = d.id AND ($4::text[] = '{}' OR type = ANY($4))
"""
_MESSAGES = """
    SELECT shard, message_seq AS seq, message_stored_at AS stored_at, device_id FROM device_state
     WHERE shard = d.shard AND shard = ANY($2) AND device_id = d.id AND message_seq IS NOT NULL
"""


# Spans of the log --------------------------------------------------------------------------------------------

_LOOKED = """
    SELECT e.* FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[]) AS s (shard, low, high, since)
     CROSS JOIN LATERAL (
           SELECT shard, seq, stored_at, device_id, type, ts FROM events
            WHERE project_id = $5 AND shard = s.shard AND shard = ANY($1) AND seq >= s.low AND seq < s.high
              AND stored_at >= s.since
            ORDER BY project_id, shard, seq LIMIT $6) e
"""
_OF_TYPE = "($7::text[] = '{}' OR type = ANY($7))"


async def _spans(connection: Connection, job: Any) -> list[Any]:
    return await connection.fetch(
        "SELECT shard, low, high, since FROM connector_job_spans WHERE job_id = $1 ORDER BY shard", job["id"]
    )


async def _look(connection: Connection, statement: str, spans: list[Any], *arguments: Any, alone: bool) -> list[Any]:
    """The rows of a statement about spans; about each by itself with `alone`."""
    rows: list[Any] = []
    for some in [[span] for span in spans] if alone else [spans]:
        columns = ([span[name] for span in some] for name in ("shard", "low", "high", "since"))
        rows += await connection.fetch(statement, *columns, *arguments)
    return rows


async def _narrow(connection: Connection, connector: Any, job: Any, in_files: int, *, alone: bool) -> None:
    """Let the spans begin with the project's first events in them, so that progress means something."""
    spans = await _spans(connection, job)
    first = await _look(
        connection,
        """SELECT e.shard, e.seq
             FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[]) AS s (shard, low, high, since)
            CROSS JOIN LATERAL (
                  SELECT shard, seq FROM events
                   WHERE project_id = $5 AND shard = s.shard AND shard = ANY($1) AND seq >= s.low AND seq < s.high
                     AND stored_at >= s.since
                   ORDER BY project_id, shard, seq LIMIT 1) e""",
        spans,
        connector["project_id"],
        alone=alone,
    )
    low = {row["shard"]: row["seq"] for row in first}
    await _move(connection, job, low, [span["shard"] for span in spans if span["shard"] not in low])
    total = in_files + sum(span["high"] - low[span["shard"]] for span in spans if span["shard"] in low)
    await connection.execute("UPDATE connector_jobs SET total = $2 WHERE id = $1", job["id"], total)


def _limit(spans: list[Any]) -> int:
    return max(EVENTS_OF_SHARD_MIN, EVENTS // max(1, len(spans)))


async def _pass(connection: Connection, job: Any, spans: list[Any], looked: list[Any]) -> tuple[int, int]:
    """Move on behind what was looked at; returns how many numbers that are, and how many spans are left."""
    limit, by_shard = _limit(spans), {row["shard"]: row for row in looked}
    passed, over = 0, []
    low: dict[int, int] = {}
    for span in spans:
        row = by_shard.get(span["shard"])
        if row is None or row["looked"] < limit:
            passed += span["high"] - span["low"]
            over.append(span["shard"])
        else:
            passed += row["last"] + 1 - span["low"]
            low[span["shard"]] = row["last"] + 1
    await _move(connection, job, low, over)
    return passed, len(low)


async def _move(connection: Connection, job: Any, low: dict[int, int], over: list[int]) -> None:
    """Let spans begin later, and end those that are over."""
    await connection.execute(
        "DELETE FROM connector_job_spans WHERE job_id = $1 AND shard = ANY($2::smallint[])", job["id"], over
    )
    await connection.execute(
        """UPDATE connector_job_spans s SET low = m.low FROM unnest($2::smallint[], $3::bigint[]) AS m (shard, low)
            WHERE s.job_id = $1 AND s.shard = m.shard""",
        job["id"],
        list(low),
        list(low.values()),
    )


async def _count(connection: Connection, job: Any, *, accepted: int, dropped: int, events: int, passed: int) -> None:
    if accepted or dropped:
        await connection.execute(
            "UPDATE data_connectors SET accepted = accepted + $2, dropped = dropped + $3 WHERE id = $1",
            job["connector_id"],
            accepted,
            dropped,
        )
    await connection.execute(
        "UPDATE connector_jobs SET events = events + $2, passed = passed + $3 WHERE id = $1", job["id"], events, passed
    )
