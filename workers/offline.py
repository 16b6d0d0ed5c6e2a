"""The offline sweep: finds devices that are silent for longer than their model's threshold.

Silence is measured up to the moment that all which a shard accepted is stored: now when its stream is empty, else the
time of its oldest entry. A flusher that lags, or a Postgres that was away, so makes no device offline. When telemetry
could not be taken (the shard was being rebuilt, Redis was away, this process has just begun) devices first get time to
be heard again.

The way back online is the flusher's: it closes the incident with the message that it stores. Both hold the shard's row
while they decide, so neither undoes what the other has just done. Not seen from here: edges that are all down while
Redis is not.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from redis.asyncio.cluster import RedisCluster

from schemas import keys, logs
from schemas.metrics import Metrics
from schemas.postgres import Connection, Pool, batches
from schemas.redis import Redis, RedisAway
from workers import offline_incidents

log = logging.getLogger(__name__)

DEVICES_MAX = 1_000
"""Devices in one transaction: the flusher of the shard waits for it."""
GRACE = timedelta(seconds=120)
"""The longest usual pause between two messages of a device: what it gets after it could not be heard."""

# Devices that were silent for longer than the shortest threshold of any model. Which model a device has lies elsewhere
# and is looked up for each of these, so a model with a threshold below the pause between other devices' messages makes
# every sweep look at those too.
_QUIET = """
    SELECT s.device_id, s.shard, s.last_seen_at
      FROM unnest($1::smallint[], $2::timestamptz[]) AS quiet (shard, since)
      JOIN device_state s ON s.shard = quiet.shard AND s.last_seen_at < quiet.since
     WHERE s.shard = ANY($1) AND NOT s.offline
"""


class OfflineSweep:
    """Sweeps all shards. Several may run: each device goes offline once."""

    def __init__(self, pool: Pool, redis: Redis, metrics: Metrics, shards: int) -> None:
        self._pool = pool
        self._redis = redis
        self._metrics = metrics
        self._shards = shards
        self._heard_since: dict[int, datetime] = {}

    async def sweep(self, now: datetime | None = None) -> int:
        """Mark the devices that went silent; returns how many. `now` stands for the clock."""
        now = now or datetime.now(UTC)
        stored_until = await self._stored_until(now)
        found = 0
        async with (
            self._pool.acquire() as connection,
            self._pool.acquire() as reading,
            reading.transaction(readonly=True),
        ):
            thresholds = await _thresholds(connection)
            shortest = min(thresholds.values(), default=timedelta())
            since = [until - shortest for until in stored_until.values()]
            async for rows in batches(reading, _QUIET, list(stored_until), since, size=DEVICES_MAX):
                models = await _models(connection, [row["device_id"] for row in rows])
                silent: dict[int, dict[UUID, datetime]] = {}
                for row in rows:
                    threshold = thresholds.get(models[row["device_id"]])
                    if threshold is None:  # of a model made since the thresholds were read: it is for the next sweep
                        continue
                    before = stored_until[row["shard"]] - threshold
                    if row["last_seen_at"] < before:
                        silent.setdefault(row["shard"], {})[row["device_id"]] = before
                for shard, of_shard in silent.items():
                    found += await self._mark(connection, shard, of_shard, now)
        if found:
            self._metrics.devices_offline.inc(found)
            logs.event(log, logging.INFO, "devices_offline", devices=found)
        return found

    async def _stored_until(self, now: datetime) -> Mapping[int, datetime]:
        """For each shard that was open for long enough: up to when everything it accepted is stored."""
        # On a cluster one node that is away must not silence the shards of the others: each is asked for alone.
        alone = isinstance(self._redis, RedisCluster)
        together = [[shard] for shard in range(self._shards)] if alone else [list(range(self._shards))]
        oldest = {shard: entries for shards in together for shard, entries in (await self._oldest(shards)).items()}
        until: dict[int, datetime] = {}
        for shard in range(self._shards):
            if shard not in oldest:
                self._heard_since.pop(shard, None)
            elif now - self._heard_since.setdefault(shard, now) >= GRACE:
                until[shard] = _time_of(oldest[shard][0][0]) if oldest[shard] else now
        return until

    async def _oldest(self, shards: Sequence[int]) -> dict[int, Any]:
        """The oldest entry of each shard's stream, in a list that may be empty; shards without a stream are left out.

        One round trip for all.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for shard in shards:
            pipeline.exists(keys.ingest(shard))
            pipeline.xrange(keys.ingest(shard), count=1)
        try:
            answers = await pipeline.execute()
        except RedisAway:
            return {}
        return {shard: answers[2 * i + 1] for i, shard in enumerate(shards) if answers[2 * i]}

    async def _mark(self, connection: Connection, shard: int, silent: Mapping[UUID, datetime], now: datetime) -> int:
        """Mark those of a shard's devices that are still silent since before these times; returns how many.

        Devices that were deleted are marked too, so that they are not looked at again, but nothing is told of them.
        """
        async with connection.transaction():
            await connection.execute("SELECT FROM shards WHERE shard = $1 FOR UPDATE", shard)
            rows = await connection.fetch(
                """UPDATE device_state s SET offline = true
                     FROM unnest($2::uuid[], $3::timestamptz[]) AS silent (device_id, before)
                    WHERE s.shard = $1 AND s.device_id = silent.device_id AND NOT s.offline
                      AND s.last_seen_at < silent.before
                   RETURNING s.device_id""",
                shard,
                list(silent),
                list(silent.values()),
            )
            living = await connection.fetch(
                "SELECT id FROM devices WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL",
                [row["device_id"] for row in rows],
            )
            marked = [row["id"] for row in living]
            await offline_incidents.open_for(connection, marked, now)
        return len(marked)


async def _thresholds(connection: Connection) -> dict[UUID, timedelta]:
    rows = await connection.fetch("SELECT id, offline_threshold_s FROM device_models")
    return {row["id"]: timedelta(seconds=row["offline_threshold_s"]) for row in rows}


async def _models(connection: Connection, device_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    rows = await connection.fetch("SELECT id, model_id FROM devices WHERE id = ANY($1::uuid[])", device_ids)
    return {row["id"]: row["model_id"] for row in rows}


def _time_of(entry_id: bytes) -> datetime:
    return datetime.fromtimestamp(int(entry_id.partition(b"-")[0]) / 1000, UTC)
