"""One worker process: takes free shards and flushes them, until told to stop.

A shard has one owner at a time: whoever holds its Postgres advisory lock on a session of its own. The lock only keeps
workers out of each other's way; that nothing is stored twice rests on the offset's compare-and-set (see flusher).
Postgres or Redis being away ends nothing: the shards are given back and taken again when both are there.
"""

import asyncio
import logging
import random
from dataclasses import dataclass

from schemas import logs, postgres, redis
from schemas.metrics import Metrics
from schemas.postgres import AWAY, Pool
from schemas.redis import Redis, RedisError
from schemas.settings import WorkerSettings
from workers.flusher import Checkpoint, Flusher, LostShardError
from workers.janitor import Janitor
from workers.replies import ReplyRefresher

log = logging.getLogger(__name__)

LOCK_CLASS = 0x666C7368
RETRY_S = 1.0


@dataclass(frozen=True)
class Stores:
    """What the loops of one worker share."""

    pool: Pool
    redis: Redis
    metrics: Metrics
    settings: WorkerSettings


async def run(settings: WorkerSettings, metrics: Metrics, stop: asyncio.Event, checkpoint: Checkpoint) -> None:
    """Run all loops until `stop` is set. A loop that dies of a fault of ours ends the process with its cause."""
    pool = await postgres.create_pool(settings.postgres_dsn, "worker", settings.postgres_pool)
    client = redis.connect(settings.redis_url, blocking=True)
    stores = Stores(pool, client, metrics, settings)
    try:
        shards = await _shards(pool, stop)
        async with asyncio.TaskGroup() as group:
            group.create_task(ReplyRefresher(pool, client).run(stop), name="replies")
            group.create_task(Janitor(pool, settings.retention_days).run(stop), name="janitor")
            for shard in range(shards):
                group.create_task(_own(shard, stores, stop, checkpoint), name=f"flusher {shard}")
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


async def _own(shard: int, stores: Stores, stop: asyncio.Event, checkpoint: Checkpoint) -> None:
    """Flush one shard whenever its lock is to be had."""
    while not stop.is_set():
        try:
            lock = await postgres.connect(stores.settings.postgres_dsn, "worker locks")
            try:
                if await lock.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, shard):
                    logs.event(log, logging.INFO, "shard_acquired", shard=shard)
                    flusher = Flusher(shard, stores.pool, stores.redis, stores.metrics, stores.settings, checkpoint)
                    await flusher.run(stop)
            finally:
                await lock.close(timeout=2)
        except (LostShardError, RedisError, *AWAY) as error:
            logs.event(log, logging.WARNING, "shard_released", shard=shard, cause=repr(error))
        if not stop.is_set():
            await asyncio.sleep(RETRY_S * random.uniform(0.5, 1))  # noqa: S311
