"""What owners put into a connector's queue themselves: replays, synchronizations, test events.

A replay or a synchronization may be of millions. It is noted as a job, and a dispatcher puts a slice at a time into the
queue, as fast as the receiver takes them (`workers/dispatcher/jobs.py`); the job tells how far that is.
"""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from gateway.refusals import Conflict
from gateway.stores.connectors.data_connectors import Connector
from gateway.stores.events.by_index import STORED_SLACK
from schemas import event_log
from schemas.postgres import Connection, Executor

JOBS_MAX = 10
"""Replays of one connector that run at once."""
FIRST_SEQ = 1


class Job(Struct, kw_only=True):
    """Long work on a connector's queue. `passed` of `total` has been looked at."""

    id: int
    kind: Literal["replay", "sync", "drop"]
    state: Literal["RUNNING", "DONE", "SUPERSEDED", "CANCELLED"]
    created_at: datetime
    ended_at: datetime | None
    events: int
    passed: int
    total: int
    start_at: datetime | None
    end_at: datetime | None


_JOB = "id, kind, state, created_at, ended_at, events, passed, total, start_at, end_at"


async def jobs(executor: Executor, connector_id: str) -> list[Job]:
    """Those that run and the last that ended, newest first."""
    rows = await executor.fetch(
        f"SELECT {_JOB} FROM connector_jobs WHERE connector_id = $1 ORDER BY id DESC", connector_id
    )
    return [Job(**row) for row in rows]


async def synchronize(connection: Connection, connector: Connector) -> None:
    """Owe a locked, active connector the newest event of each type of each device in its project.

    An earlier synchronization ends; what it still owes is superseded.
    """
    superseded = await connection.fetchval(
        """WITH gone AS (DELETE FROM waiting_deliveries WHERE connector_id = $1 AND cause = 'sync' RETURNING 1)
           SELECT count(*) FROM gone""",
        connector.id,
    )
    await _count(connection, connector.id, accepted=0, superseded=superseded)
    await connection.execute(
        """UPDATE connector_jobs SET state = 'SUPERSEDED', ended_at = now()
            WHERE connector_id = $1 AND state = 'RUNNING' AND kind = 'sync'""",
        connector.id,
    )
    await connection.execute(
        "INSERT INTO connector_jobs (connector_id, kind, event_types) VALUES ($1, 'sync', $2)",
        connector.id,
        connector.event_types,
    )


async def replay(connection: Connection, shards: int, connector: Connector, start: datetime, end: datetime) -> Job:
    """Owe a locked, active connector all events of its project from a time range once more, as far as they are stored.

    Raises Conflict when too many replays run.
    """
    running = await connection.fetchval(
        "SELECT count(*) FROM connector_jobs WHERE connector_id = $1 AND state = 'RUNNING' AND kind = 'replay'",
        connector.id,
    )
    if running >= JOBS_MAX:
        raise Conflict(f"At most {JOBS_MAX} replays of a data connector run at once: wait until one is done")
    heads = await event_log.heads(connection, range(shards))
    row: Any = await connection.fetchrow(
        f"""INSERT INTO connector_jobs (connector_id, kind, event_types, start_at, end_at)
            VALUES ($1, 'replay', $2, $3, $4) RETURNING {_JOB}""",
        connector.id,
        connector.event_types,
        start,
        end,
    )
    await connection.execute(
        """INSERT INTO connector_job_spans (job_id, shard, low, high, since)
           SELECT $1, s.shard, $2, s.high, $3 FROM unnest($4::smallint[], $5::bigint[]) AS s (shard, high)""",
        row["id"],
        FIRST_SEQ,
        start - STORED_SLACK,
        list(heads),
        list(heads.values()),
    )
    return Job(**row)


async def add_test(connection: Connection, connector: Connector, body: Any) -> int:
    """Put a test event into a locked connector's queue; the id by which its attempt is found."""
    waiting_id: int = await connection.fetchval(
        """INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, owed_since, next_at, body)
           VALUES ($1, 0, 0, now(), 'test', now(), now(), $2) RETURNING id""",
        connector.id,
        body,
    )
    if connector.status == "ACTIVE":
        await _count(connection, connector.id, accepted=1, superseded=0)
    return waiting_id


async def attempt_of(connection: Executor, connector_id: str, waiting_id: int) -> Any:
    """The attempt that a test event led to; None until there is one."""
    return await connection.fetchrow(
        """SELECT at, event_id, attempt, status, cause, latency_ms, answer FROM delivery_attempts
            WHERE connector_id = $1 AND waiting_id = $2 ORDER BY id DESC LIMIT 1""",
        connector_id,
        waiting_id,
    )


async def _count(connection: Connection, connector_id: str, *, accepted: int, superseded: int) -> None:
    await connection.execute(
        "UPDATE data_connectors SET accepted = accepted + $2, superseded = superseded + $3 WHERE id = $1",
        connector_id,
        accepted,
        superseded,
    )
