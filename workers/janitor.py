"""Makes the event log's partitions ahead of time and drops those that are older than the retention."""

import logging
from datetime import datetime, timedelta

from schemas import logs
from schemas.postgres import PARTITIONS_AHEAD_DAYS, Pool

log = logging.getLogger(__name__)

INTERVAL_S = 600.0
"""Also how soon what was in use is tried again."""
LOCK_TIMEOUT = "2s"
"""Dropping waits no longer than this for readers, and so never holds up the flusher behind it for longer."""


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
        first_kept = f"events_{now - self._retention:%Y%m%d}"
        rows = await self._pool.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'events'::regclass"
        )
        dropped = sorted(row["name"] for row in rows if row["name"] < first_kept)
        for name in dropped:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                await connection.execute(f'DROP TABLE IF EXISTS "{name}"')
            logs.event(log, logging.INFO, "partition_dropped", partition=name)
        return dropped
