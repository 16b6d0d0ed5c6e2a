"""One worker process: its share of the shards to flush, and the loops that look after devices, commands and replies.

Postgres or Redis being away ends nothing: every loop tries again, and shards are taken again when both are there. A
loop that dies of a fault of ours ends the process with its cause; the supervisor starts another.
"""

import asyncio
import logging

from schemas import logs, postgres, redis
from schemas.metrics import Metrics
from schemas.postgres import AWAY, Pool
from schemas.settings import WorkerSettings
from workers import command_clock, janitor, replies
from workers.command_clock import CommandClock
from workers.flusher import Checkpoint, Flusher
from workers.janitor import Janitor
from workers.offline import OfflineSweep
from workers.replies import ReplyRefresher
from workers.schedule import every
from workers.shares import Shares

log = logging.getLogger(__name__)

FLUSH_LOCKS = 0x666C7368
RETRY_S = 1.0


async def run(settings: WorkerSettings, metrics: Metrics, stop: asyncio.Event, checkpoint: Checkpoint) -> None:
    """Run all loops until `stop` is set."""
    pool = await postgres.create_pool(settings.postgres_dsn, "worker", settings.postgres_pool)
    client = redis.connect(settings.redis_url, blocking=True)
    try:
        shards = await _shards(pool, stop)

        async def flush(shard: int, done: asyncio.Event) -> None:
            await Flusher(shard, pool, client, metrics, settings, checkpoint).run(done)

        shares = Shares(settings.postgres_dsn, "flusher", FLUSH_LOCKS, shards, flush)
        refresher = ReplyRefresher(pool, client)
        tidier = Janitor(pool, settings.retention_days)
        sweeper = OfflineSweep(pool, client, metrics, shards)
        clock = CommandClock(pool, client, metrics)
        async with asyncio.TaskGroup() as group:
            group.create_task(shares.run(stop), name="flushers")
            group.create_task(every(replies.INTERVAL_S, refresher.drain, stop), name="replies")
            group.create_task(every(janitor.INTERVAL_S, tidier.tidy, stop), name="janitor")
            group.create_task(every(settings.sweep_interval_s, sweeper.sweep, stop), name="offline sweep")
            group.create_task(every(command_clock.INTERVAL_S, clock.advance, stop), name="command clock")
    finally:
        await client.aclose()
        await pool.close()


async def _shards(pool: Pool, stop: asyncio.Event) -> int:
    while not stop.is_set():
        try:
            return (await postgres.installation(pool)).shards
        except AWAY as error:
            logs.event(log, logging.WARNING, "postgres_away", cause=str(error))
            await asyncio.sleep(RETRY_S)
    return 0
