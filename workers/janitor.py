"""Makes the event log's partitions ahead of time and drops those that are older than the retention.

A partition in which a data connector still owes events to its receiver is kept for some days more, whatever the
retention: it may be shorter than a receiver's outage. What is dropped unsent even then is counted and told (see
`workers.unsent`).
"""

import logging
from datetime import UTC, datetime, timedelta

from schemas import logs
from schemas.postgres import PARTITIONS_AHEAD_DAYS, Pool
from workers import unsent

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
        dropped = []
        for name in names:
            if name < f"{PREFIX}{now - self._retention:%Y%m%d}" and await self._drop(name, now):
                dropped.append(name)
                logs.event(log, logging.INFO, "partition_dropped", partition=name)
        return dropped

    async def _drop(self, name: str, now: datetime) -> bool:
        """Drop a partition, unless connectors owe events of it and it was not kept for long enough."""
        day = datetime.strptime(name, f"{PREFIX}%Y%m%d").replace(tzinfo=UTC)
        owed = await unsent.owed(self._pool, name, day)
        if owed and now - self._retention - OWED_MAX < day + timedelta(days=1):
            logs.event(log, logging.WARNING, "partition_kept", partition=name, owed=owed)
            return False
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            if owed:
                await unsent.expire(connection, name, day, list(owed))
            await connection.execute(f'DROP TABLE IF EXISTS "{name}"')
        if owed:
            logs.event(log, logging.ERROR, "events_dropped_unsent", partition=name, owed=owed)
        return True
