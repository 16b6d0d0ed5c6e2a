"""Watches how full Redis is and how long the backlog, and has telemetry shed before anything must be dropped."""

import asyncio
import logging

from redis.asyncio.cluster import RedisCluster

from gateway.ingest.ingest import Ingest
from schemas import keys, logs
from schemas.outcomes import Refused
from schemas.redis import Redis, RedisAway
from schemas.settings import EdgeSettings

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
UNLIMITED_SHARE = 0.5
"""Of the machine's memory: what counts as Redis's limit where it has no maxmemory."""


class Pressure:
    """Sets `Ingest.shed` for each shard, once a second."""

    def __init__(self, redis: Redis, ingest: Ingest, shards: int, settings: EdgeSettings) -> None:
        self._redis = redis
        self._ingest = ingest
        self._shards = shards
        self._memory_ratio = settings.shed_memory_ratio
        self._backlog_entries = settings.shed_backlog_entries

    async def run(self) -> None:
        """Watch until cancelled. While Redis does not answer nothing changes: the hot path notices by itself."""
        while True:
            try:
                for shard in range(self._shards):
                    self._set(shard, await self._measure(shard))
            except RedisAway as error:
                logs.event(log, logging.DEBUG, "pressure_unknown", cause=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def _measure(self, shard: int) -> Refused | None:
        stream = keys.ingest(shard)
        if await self._redis.xlen(stream) > self._backlog_entries:
            return Refused.SHED_BACKLOG
        if isinstance(self._redis, RedisCluster):
            node = self._redis.get_node_from_key(stream)
            info = await self._redis.info("memory", target_nodes=node)
        else:
            info = await self._redis.info("memory")
        limit = info["maxmemory"] or info["total_system_memory"] * UNLIMITED_SHARE
        return Refused.SHED_MEMORY if info["used_memory"] > limit * self._memory_ratio else None

    def _set(self, shard: int, reason: Refused | None) -> None:
        if self._ingest.shed[shard] is not reason:
            logs.event(log, logging.WARNING, "shedding_changed", shard=shard, reason=reason)
        self._ingest.shed[shard] = reason
