"""Makes the event log's partitions ahead of time and drops those that are older than the retention, or lie in files.

A partition in which a data connector still owes events to its receiver is kept for some days more, whatever the
retention: it may be shorter than a receiver's outage. What is dropped unsent even then is counted and told (see
`workers.unsent`). A day that is in the archive is moved when its hot days are over: its partition is dropped, unless
connectors owe events of it, in the transaction that makes readers look into the files (`schemas.archive.listing`).
"""

import logging
from datetime import date, datetime, timedelta

from schemas import logs
from schemas.archive import listing
from schemas.postgres import PARTITIONS_AHEAD_DAYS, Pool
from workers import partitions, unsent

log = logging.getLogger(__name__)

INTERVAL_S = 600.0
"""Also how soon what was in use is tried again."""
LOCK_TIMEOUT = "2s"
"""Dropping waits no longer than this for readers, and so never holds up the flusher behind it for longer."""
OWED_MAX = timedelta(days=7)
"""For so long a partition is kept for connectors that owe events of it: a connector that fails is disabled after five
days, and the longest retry window is seven."""


class Janitor:
    """Looks after the partitions of `events`. Several may run: each step is idempotent."""

    def __init__(self, pool: Pool, retention_days: int, *, hot_days: int | None = None, shards: int = 0) -> None:
        self._pool = pool
        self._retention = timedelta(days=retention_days)
        self._hot = None if hot_days is None else timedelta(days=hot_days)
        self._shards = shards

    async def tidy(self, now: datetime | None = None) -> list[str]:
        """Create the next days' partitions and drop the expired ones; returns the names of the dropped.

        `now` stands for the clock of Postgres, which dates events: a worker's that is ahead must drop nothing.
        """
        now = now or await self._pool.fetchval("SELECT now()")
        await self._pool.execute("SELECT create_event_partitions($1)", PARTITIONS_AHEAD_DAYS)
        dropped = []
        for day in await partitions.days(self._pool):
            name = partitions.name_of(day)
            if day < (now - self._retention).date() and await self._drop(name, partitions.begin_of(day), now):
                dropped.append(name)
                logs.event(log, logging.INFO, "partition_dropped", partition=name)
            elif self._hot is not None and partitions.begin_of(day) + self._hot <= now and await self._move(name, day):
                dropped.append(name)
                logs.event(log, logging.INFO, "partition_moved", partition=name)
        return dropped

    async def _move(self, name: str, day: date) -> bool:
        """Drop a partition all rows of which are in files, unless connectors owe events of it."""
        if len(await listing.archived_shards(self._pool, day)) < self._shards:
            return False
        if await listing.is_moved(self._pool, day):  # made anew by a clock that went back
            logs.event(log, logging.WARNING, "partition_kept", partition=name, cause="moved before")
            return False
        if owed := await unsent.owed(self._pool, name, partitions.begin_of(day)):
            logs.event(log, logging.INFO, "partition_kept", partition=name, owed=owed)
            return False
        async with self._pool.acquire() as connection:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                late = await listing.move(connection, day, name)
            if late:
                logs.event(log, logging.WARNING, "partition_kept", partition=name, cause="grown", shards=late)
                await listing.reopen(connection, day, late)
        return late == []

    async def _drop(self, name: str, day: datetime, now: datetime) -> bool:
        """Drop a partition, unless connectors owe events of it and it was not kept for long enough."""
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
