"""Makes the event log's partitions ahead of time and drops those that are older than the retention.

A partition in which a data connector still owes events to its receiver is kept for some days more, whatever the
retention: it may be shorter than a receiver's outage. What is dropped unsent even then is counted and told.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import logs
from schemas.postgres import PARTITIONS_AHEAD_DAYS, Pool

log = logging.getLogger(__name__)

INTERVAL_S = 600.0
"""Also how soon what was in use is tried again."""
LOCK_TIMEOUT = "2s"
"""Dropping waits no longer than this for readers, and so never holds up the flusher behind it for longer."""
OWED_MAX = timedelta(days=7)
"""For so long a partition is kept for connectors that owe events of it: a connector that fails is disabled after five
days, and the longest retry window is seven."""
PREFIX = "events_"


class Janitor:
    """Looks after the partitions of `events`. Several may run: each step is idempotent."""

    def __init__(self, pool: Pool, retention_days: int) -> None:
        self._pool = pool
        self._retention = timedelta(days=retention_days)

    async def tidy(self, now: datetime | None = None) -> list[str]:
        """Create the next days' partitions and drop the expired ones; returns the names of the dropped.

        `now` stands for the clock of Postgres, which dates events: a worker's that is ahead must drop nothing.
        """
        now = now or await self._pool.fetchval("SELECT now()")
        await self._pool.execute("SELECT create_event_partitions($1)", PARTITIONS_AHEAD_DAYS)
        rows = await self._pool.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'events'::regclass"
        )
        names = sorted(row["name"] for row in rows)
        expired = [name for name in names if name < f"{PREFIX}{now - self._retention:%Y%m%d}"]
        dropped = [name for name in expired if await self._is_done_with(name, now)]
        for name in dropped:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                await connection.execute(f'DROP TABLE IF EXISTS "{name}"')
            logs.event(log, logging.INFO, "partition_dropped", partition=name)
        return dropped

    async def _is_done_with(self, name: str, now: datetime) -> bool:
        """Whether no connector owes events of a partition, or it was kept for long enough."""
        day = datetime.strptime(name, f"{PREFIX}%Y%m%d").replace(tzinfo=UTC)
        owed = await self._owed(name, day)
        if not owed:
            return True
        waits = now - self._retention - OWED_MAX < day + timedelta(days=1)
        if waits:
            logs.event(log, logging.WARNING, "partition_kept", partition=name, owed=owed)
        else:
            logs.event(log, logging.ERROR, "events_dropped_unsent", partition=name, owed=owed)
        return not waits

    async def _owed(self, name: str, day: datetime) -> dict[str, int]:
        """How many events of a partition each active connector has before it, or waiting."""
        places = await self._pool.fetch(
            """SELECT p.connector_id, p.shard, p.seq, c.project_id
                 FROM connector_positions p JOIN data_connectors c ON c.id = p.connector_id
                WHERE c.status = 'ACTIVE' AND p.stored_at < $1""",
            day + timedelta(days=1),
        )
        ahead = await self._pool.fetch(
            f"""SELECT o.connector_id, sum(counted.events)::bigint AS events
                  FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::uuid[])
                         AS o (connector_id, shard, seq, project_id)
                 CROSS JOIN LATERAL (
                       SELECT count(*) AS events FROM "{name}" e
                        WHERE e.project_id = o.project_id AND e.shard = o.shard AND e.seq >= o.seq) AS counted
                 WHERE counted.events > 0 GROUP BY 1""",
            *_columns(places, "connector_id", "shard", "seq", "project_id"),
        )
        waiting = await self._pool.fetch(
            """SELECT w.connector_id, count(*) AS events
                 FROM waiting_deliveries w JOIN data_connectors c ON c.id = w.connector_id
                WHERE c.status = 'ACTIVE' AND w.body IS NULL AND w.stored_at >= $1 AND w.stored_at < $2 GROUP BY 1""",
            day,
            day + timedelta(days=1),
        )
        owed: dict[str, int] = {}
        for row in (*ahead, *waiting):
            owed[row["connector_id"]] = owed.get(row["connector_id"], 0) + row["events"]
        return owed


def _columns(rows: list[Any], *names: str) -> list[list[Any]]:
    return [[row[name] for row in rows] for name in names]
