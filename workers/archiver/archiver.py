"""Writes closed days of the event log to files, and deletes those that are past the retention.

    day over, hot days past ──▶ each shard: written and compared (`closing`) ──▶ all shards kept
    past the retention, or to be erased (`erasing`) ──▶ does not count any more ──▶ bytes deleted

Several may run: a shard's day is one worker's at a time, by an advisory lock of Postgres, and what one that lost its
lock wrote does not count. A store that is away or full delays all of it, and the log keeps its partitions meanwhile.
The role has a process of its own (see `workers.own_process`), of low priority, and works a share of its time; so a day
may take most of a day, and who wants something erased is served between two shards.
"""

import asyncio
import logging
import time
from datetime import date, datetime, timedelta

from schemas import logs, postgres
from schemas.archive import erasures, listing
from schemas.archive.files import Files
from schemas.archive.listing import DamagedError, Superseded
from schemas.blobs.store import BlobsAway, BlobsFull, BlobStore
from schemas.metrics import Metrics
from schemas.postgres import Connection, Pool, PostgresAway
from schemas.settings import WorkerSettings
from workers import partitions
from workers.archiver import scratch
from workers.archiver.closing import Closing
from workers.archiver.erasing import Erasing
from workers.checkpoints import Checkpoint

log = logging.getLogger(__name__)

LOCKS = 0x61726368
"""The class of the advisory locks; their number is the day's, with the shard's."""
_SHARDS_OF_DAY = 1024
INTERVAL_S = 60.0
RETRY_S, RETRY_MAX_S = 5.0, 600.0
BEHIND_S = 86_400.0
"""Days come faster than they are written."""
_FIRST_DAY = date(2000, 1, 1)


class Archiver:
    """Keeps the archive."""

    def __init__(
        self,
        pool: Pool,
        store: BlobStore,
        metrics: Metrics,
        settings: WorkerSettings,
        shards: int,
        checkpoint: Checkpoint = lambda _: None,
    ) -> None:
        self._pool = pool
        self._dsn = settings.postgres_dsn
        self._metrics = metrics
        self._hot = timedelta(days=settings.archive_hot_days)
        self._retention = timedelta(days=settings.retention_days)
        self._shards = shards
        self._share = settings.archive_share
        self._files = Files(store)
        self._closing = Closing(pool, store, self._files, self._rest, checkpoint)
        self._erasing = Erasing(pool, self._files, self._closing, self._rest)
        self._began = time.monotonic()
        self._asked: set[int] = set()
        """Erasures that this round has looked at."""

    async def run(self, stop: asyncio.Event) -> None:
        """Do what is due until `stop` is set: then at once, in the middle of a day if need be."""
        scratch.clear_up()
        working, stopping = asyncio.create_task(self._work(), name="days"), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.wait({working, stopping})
            await self._files.close()

    async def _work(self) -> None:
        """Look for what is to be done; what fails is tried again, later each time."""
        pause_s = INTERVAL_S
        while True:
            try:
                await self.tidy()
                pause_s = INTERVAL_S
            except (BlobsAway, DamagedError, PostgresAway, OSError) as error:
                pause_s = RETRY_S if pause_s == INTERVAL_S else min(2 * pause_s, RETRY_MAX_S)
                self._deferred(error, pause_s)
            await asyncio.sleep(pause_s)

    async def tidy(self, now: datetime | None = None) -> int:
        """Do all that is due; returns how many shards' days went into the archive. `now` stands for Postgres' clock."""
        now = now or await self._pool.fetchval("SELECT now()")
        oldest, closed = (now - self._retention).date(), 0
        self._began, self._asked = time.monotonic(), set()
        session = await postgres.connect(self._dsn, "worker archiver")
        try:
            await self._erase(session)
            for day in await partitions.days(self._pool):
                since = partitions.begin_of(day) + self._hot
                if day >= oldest and since <= now:
                    closed += await self._close(session, day, (now - since).total_seconds())
            self._metrics.archive_lag.set(0)
            await self._expire(session, oldest)
        finally:
            await session.close(timeout=2)
        return closed

    async def _close(self, session: Connection, day: date, lag_s: float) -> int:
        """Put the shards of a day that are missing into the archive; it could be there for so long already."""
        closed, began = 0, time.monotonic()
        missing = sorted(set(range(self._shards)) - await listing.archived_shards(self._pool, day))
        if missing and lag_s > BEHIND_S:
            logs.event(log, logging.WARNING, "archive_behind", day=str(day), hours=round(lag_s / 3600))
        for shard in missing:
            self._metrics.archive_lag.set(lag_s + time.monotonic() - began)
            closed += await self._close_shard(session, day, shard)
            await self._rest()
            await self._erase(session)
        return closed

    async def _close_shard(self, session: Connection, day: date, shard: int) -> bool:
        """Put a shard's day into the archive, unless another worker does or did."""
        if not await self._hold(session, day, shard):
            return False
        began = time.monotonic()
        try:
            if shard in await listing.archived_shards(self._pool, day):
                return False
            rows = await self._closing.close(day, shard)
        except Superseded:
            logs.event(log, logging.WARNING, "archive_superseded", day=str(day), shard=shard)
            return False
        finally:
            await session.execute("SELECT pg_advisory_unlock($1, $2)", LOCKS, _number(day, shard))
        self._metrics.archive_days.inc()
        self._metrics.archive_rows.inc(rows)
        took_s = round(time.monotonic() - began, 3)
        logs.event(log, logging.INFO, "day_archived", day=str(day), shard=shard, rows=rows, seconds=took_s)
        return True

    async def _erase(self, session: Connection) -> None:
        """Do what was asked for; what somebody else holds, or reads, is left for the next turn."""
        for erasure in await erasures.open_ones(self._pool):
            if erasure.id in self._asked:
                continue
            self._asked.add(erasure.id)
            through = True
            days = {*await partitions.days(self._pool), *await erasures.moved_days(self._pool)}
            shards = range(self._shards) if erasure.shard is None else [erasure.shard]
            for day, shard in ((day, shard) for day in sorted(days) for shard in shards):
                if not await self._hold(session, day, shard):
                    through = False
                    continue
                try:
                    through &= await self._erasing.erase(erasure, day, shard)
                finally:
                    await session.execute("SELECT pg_advisory_unlock($1, $2)", LOCKS, _number(day, shard))
                await self._rest()
            if through:
                await erasures.done(self._pool, erasure)
                logs.event(log, logging.INFO, "history_erased", erasure=erasure.id)

    async def _expire(self, session: Connection, before: date) -> None:
        """Let go of days that are past the retention, and of what does not count for another reason."""
        async with self._pool.acquire() as connection:
            await listing.expire(connection, before)
        deleted = 0
        for day, shard in await listing.unneeded_days(self._pool):
            if await self._hold(session, day, shard):
                try:
                    deleted += await self._closing.clear(day, shard)
                finally:
                    await session.execute("SELECT pg_advisory_unlock($1, $2)", LOCKS, _number(day, shard))
        if deleted:
            self._metrics.retention_ended.labels("files of history").inc(deleted)
            logs.event(log, logging.INFO, "retention_ended", what="files of history", rows=deleted)

    async def _hold(self, session: Connection, day: date, shard: int) -> bool:
        held: bool = await session.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCKS, _number(day, shard))
        return held

    async def _rest(self) -> None:
        """Between two pieces of work, Postgres' or this process's: for as long as leaves it its share."""
        await asyncio.sleep((time.monotonic() - self._began) * (1 / self._share - 1))
        self._began = time.monotonic()

    def _deferred(self, error: Exception, again_in_s: float) -> None:
        causes = {BlobsFull: "full", BlobsAway: "away", DamagedError: "damaged", OSError: "disk"}
        cause = next((text for kind, text in causes.items() if isinstance(error, kind)), "postgres")
        self._metrics.archive_failures.labels(cause).inc()
        level = logging.ERROR if cause == "damaged" else logging.WARNING
        logs.event(log, level, "archive_deferred", cause=cause, error=str(error), again_in_s=again_in_s)


def _number(day: date, shard: int) -> int:
    return (day - _FIRST_DAY).days * _SHARDS_OF_DAY + shard
