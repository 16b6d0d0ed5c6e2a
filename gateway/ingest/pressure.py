"""Watches how full Redis is and how long the backlog, and has telemetry shed before anything must be dropped."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

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

_LENGTHS = """
    local lengths, shards = {}, #KEYS / 2
    for n = 1, shards do
        lengths[n] = redis.call('XLEN', KEYS[n]) - (redis.call('HGET', KEYS[shards + n], 'kept') or 0)
    end
    return lengths
"""
"""One command instead of two for each shard, which an edge at rest would spend most of its time on."""


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
                for shard, reason in enumerate(await self._measure()):
                    self._set(shard, reason)
            except RedisAway as error:
                logs.event(log, logging.DEBUG, "pressure_unknown", cause=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def _measure(self) -> list[Refused | None]:
        """For each shard why its telemetry is to be shed: one round trip a node for the lengths, one for the memory."""
        streams = [keys.ingest(shard) for shard in range(self._shards)]
        lengths = await self._lengths(streams)
        fullness = await self._fullness(streams)
        return [
            Refused.SHED_BACKLOG if length > self._backlog_entries else Refused.SHED_MEMORY if full else None
            for length, full in zip(lengths, fullness, strict=True)
        ]

    async def _lengths(self, streams: Sequence[str]) -> list[int]:
        """How many entries of each stream are not stored yet."""
        if not isinstance(self._redis, RedisCluster):
            progress = map(keys.progress, range(self._shards))
            return list(await self._redis.eval(_LENGTHS, 2 * self._shards, *streams, *progress))
        pipeline = self._redis.pipeline(transaction=False)
        for shard, stream in enumerate(streams):
            pipeline.xlen(stream)
            pipeline.hget(keys.progress(shard), "kept")
        found = await pipeline.execute()
        return [length - int(kept or 0) for length, kept in zip(found[::2], found[1::2], strict=True)]

    async def _fullness(self, streams: Sequence[str]) -> list[bool]:
        """For each stream whether the node that holds it is nearly full."""
        if not isinstance(self._redis, RedisCluster):
            return [self._is_full(await self._redis.info("memory"))] * len(streams)
        nodes = [self._redis.get_node_from_key(stream) for stream in streams]
        full = {
            node.name: self._is_full(await self._redis.info("memory", target_nodes=node))
            for node in {node.name: node for node in nodes if node is not None}.values()
        }
        return [node is not None and full[node.name] for node in nodes]

    def _is_full(self, info: Any) -> bool:
        limit = info["maxmemory"] or info["total_system_memory"] * UNLIMITED_SHARE
        return bool(info["used_memory"] > limit * self._memory_ratio)

    def _set(self, shard: int, reason: Refused | None) -> None:
        if self._ingest.shed[shard] is not reason:
            logs.event(log, logging.WARNING, "shedding_changed", shard=shard, reason=reason)
        self._ingest.shed[shard] = reason
