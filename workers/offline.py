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

from schemas import ids, keys, logs, outbox
from schemas.life_cycle import IncidentClosed, IncidentOpened, StatusChanged
from schemas.metrics import Metrics
from schemas.postgres import Connection, Pool
from schemas.redis import Redis, RedisAway

log = logging.getLogger(__name__)

DEVICES_MAX = 1_000
"""Devices in one transaction: the flusher of the shard waits for it."""
GRACE = timedelta(seconds=120)
"""The longest usual pause between two messages of a device: what it gets after it could not be heard."""
ISSUE = "offline"


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
        async with self._pool.acquire() as connection:
            silent = await connection.fetch(
                """SELECT s.device_id, s.shard
                     FROM device_state s JOIN unnest($1::int[], $2::timestamptz[]) AS stored (shard, until)
                          ON stored.shard = s.shard
                     JOIN devices d ON d.id = s.device_id JOIN device_models m ON m.id = d.model_id
                    WHERE NOT s.offline AND d.deleted_at IS NULL
                      AND s.last_seen_at < stored.until - make_interval(secs => m.offline_threshold_s)""",
                list(stored_until),
                list(stored_until.values()),
            )
            for shard, until in stored_until.items():
                of_shard = [row["device_id"] for row in silent if row["shard"] == shard]
                for first in range(0, len(of_shard), DEVICES_MAX):
                    found += await self._mark(connection, shard, until, of_shard[first : first + DEVICES_MAX], now)
        if found:
            self._metrics.devices_offline.inc(found)
            logs.event(log, logging.INFO, "devices_offline", devices=found)
        return found

    async def _stored_until(self, now: datetime) -> Mapping[int, datetime]:
        """For each shard that was open for long enough: up to when everything it accepted is stored."""
        until: dict[int, datetime] = {}
        for shard in range(self._shards):
            try:
                exists = await self._redis.exists(keys.ingest(shard))
                oldest: Any = await self._redis.xrange(keys.ingest(shard), count=1) if exists else []
            except RedisAway:
                exists = 0
            if not exists:
                self._heard_since.pop(shard, None)
            elif now - self._heard_since.setdefault(shard, now) >= GRACE:
                until[shard] = _time_of(oldest[0][0]) if oldest else now
        return until

    async def _mark(
        self, connection: Connection, shard: int, until: datetime, device_ids: list[object], now: datetime
    ) -> int:
        async with connection.transaction():
            await connection.execute("SELECT FROM shards WHERE shard = $1 FOR UPDATE", shard)
            rows = await connection.fetch(
                """UPDATE device_state s SET offline = true FROM devices d JOIN device_models m ON m.id = d.model_id
                    WHERE s.device_id = ANY($1::uuid[]) AND d.id = s.device_id
                      AND d.deleted_at IS NULL AND NOT s.offline
                      AND s.last_seen_at < $2::timestamptz - make_interval(secs => m.offline_threshold_s)
                   RETURNING s.device_id, d.project_id""",
                device_ids,
                until,
            )
            await connection.execute(
                """INSERT INTO incidents (id, device_id, issue, title, opened_at)
                   SELECT i.id, i.device_id, $3, 'Device is offline', $4
                     FROM unnest($1::uuid[], $2::uuid[]) AS i (id, device_id)
                   ON CONFLICT (device_id, issue) WHERE closed_at IS NULL DO NOTHING""",
                [ids.new_id() for _ in rows],
                [row["device_id"] for row in rows],
                ISSUE,
                now,
            )
            await announce(connection, [row["device_id"] for row in rows], offline=True, moment=now)
        return len(rows)


async def announce(connection: Connection, device_ids: Sequence[object], *, offline: bool, moment: datetime) -> None:
    """Tell of devices that went offline or came back, inside the transaction that makes it so."""
    incident = IncidentOpened(issue=ISSUE) if offline else IncidentClosed(issue=ISSUE)
    for told in (StatusChanged(offline=offline), incident):
        query = "SELECT unnest($4::uuid[]) AS device_id"
        await outbox.append_to_each(connection, told, moment, query, device_ids)


def _time_of(entry_id: bytes) -> datetime:
    return datetime.fromtimestamp(int(entry_id.partition(b"-")[0]) / 1000, UTC)
