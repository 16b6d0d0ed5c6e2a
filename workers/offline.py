"""The offline sweep: finds devices that are silent for longer than their model's threshold.

Only a silence that could have been broken counts. It is measured up to the moment that all which a shard accepted is
stored: the last beat of its edges when its stream is empty, else the time of its oldest entry; so a flusher that lags,
or a Postgres that was away, makes no device offline. When telemetry could not be taken (the shard was being rebuilt,
Redis was away, edges were frozen, shedding or gone, a clock was set) devices first get time to be heard again: one
threshold. A process that has just begun, and knows of no outage, waits a little. What edges tell of themselves is in
`schemas.presence`; their clocks date messages, so silence is measured by theirs.

A device is looked at when its silence may be long enough: `check_at`, which the flusher moves on now and then while the
device is heard (see `workers.flusher.states`), and the sweep when it finds that the device was. So a sweep costs what
may change, not what there is.

A device that was handed a command and did not say yet how it ended is left in peace until the command times out: an
update or a reboot takes longer than some thresholds.

The way back online is the flusher's: it closes the incident with the message that it stores. Both hold the shard's row
while they decide, so neither undoes what the other has just done.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from redis.asyncio.cluster import RedisCluster

from schemas import device_status, keys, logs, presence
from schemas.distribution import two_phases
from schemas.metrics import Metrics
from schemas.postgres import Connection, Pool, PostgresAway
from schemas.presence import Heard
from schemas.redis import Redis, RedisAway
from schemas.times import EPOCH
from workers import offline_incidents

log = logging.getLogger(__name__)

DEVICES_MAX = 250
"""Devices in one transaction: the flusher of the shard waits for it."""
OUTBOX_MAX = 500
"""Events that wait in a shard's outbox: with more of them its devices are marked later, so that others' events pass."""
OUTBOX_PAUSE_S = 0.05
OUTBOX_WAIT_S = 10.0
"""A sweep that could do nothing for so long ends: what is left is for the next."""
GRACE = timedelta(seconds=120)
"""What a process that has just begun waits, since it cannot know how its shards were."""


class _Judged(NamedTuple):
    """What may be judged of a shard: the silence up to a moment, of devices that could be heard for so long by then."""

    until: datetime
    heard_for: timedelta


class _Progress(NamedTuple):
    """How far a sweep has come in a shard, in the order of `check_at`."""

    check_at: datetime
    device_id: UUID


_START = _Progress(datetime.min.replace(tzinfo=UTC), UUID(int=0))
"""Before all; asyncpg reads and writes this time as -infinity."""
MILLISECOND = timedelta(milliseconds=1)
_ALWAYS, _NOTHING = timedelta(days=36_500), timedelta()


class OfflineSweep:
    """Sweeps the shards that this worker has; all, unless `owned` says otherwise. Each device goes offline once."""

    def __init__(
        self,
        pool: Pool,
        redis: Redis,
        metrics: Metrics,
        shards: int,
        owned: Callable[[], Collection[int]] | None = None,
        *,
        distributed: bool = False,
    ) -> None:
        self._pool = pool
        self._redis = redis
        self._metrics = metrics
        self._shards = shards
        self._distributed = distributed
        self._owned = owned or (lambda: range(shards))
        self._begun: float | None = None
        self._away: set[int] = set()
        """The shards without their stream, or whose Redis is away."""
        self._heard_again: dict[int, float] = {}
        """When each was found again, in seconds of the clock of `_begun`."""
        self._unheard: set[int] = set()

    async def sweep(self, now: datetime | None = None) -> int:
        """Mark the devices that went silent; returns how many. `now` stands for all clocks."""
        judged = await self._judged(now)
        left = {shard: _START for shard in self._owned() if shard in judged}
        moment, found, waited_since = now or datetime.now(UTC), 0, time.monotonic()
        async with self._pool.acquire() as connection:
            thresholds = await _thresholds(connection)
            while left and time.monotonic() - waited_since < OUTBOX_WAIT_S:
                busy = await _busy(connection, left)
                for shard in left.keys() - busy:
                    try:
                        marked, place = await self._step(
                            connection, shard, left[shard], judged[shard], thresholds, moment
                        )
                    except PostgresAway as error:
                        # The node of this shard may be away, which is no reason to leave the others.
                        if connection.is_closed() or not self._distributed:
                            raise
                        logs.event(log, logging.WARNING, "shard_not_swept", shard=shard, cause=str(error))
                        marked, place = 0, None
                    found += marked
                    if place is None:
                        del left[shard]
                    else:
                        left[shard] = place
                    waited_since = time.monotonic()
                if busy:
                    await asyncio.sleep(OUTBOX_PAUSE_S)
        if found:
            self._metrics.devices_offline.inc(found)
            logs.event(log, logging.INFO, "devices_offline", devices=found)
        return found

    async def _step(
        self,
        connection: Connection,
        shard: int,
        after: _Progress,
        judged: _Judged,
        thresholds: Mapping[UUID, timedelta],
        now: datetime,
    ) -> tuple[int, _Progress | None]:
        """Look at the next devices of a shard: how many were marked, and where to go on if there are more."""
        until = judged.until
        rows = await connection.fetch(
            """SELECT device_id, last_seen_at, check_at FROM device_state
                WHERE shard = $1 AND NOT offline AND check_at <= $2 AND (check_at, device_id) > ($3, $4)
                ORDER BY check_at, device_id LIMIT $5""",
            shard,
            until,
            *after,
            DEVICES_MAX,
        )
        if not rows:
            return 0, None
        models = await _models(connection, [row["device_id"] for row in rows])
        silent: dict[UUID, datetime] = {}
        later: dict[UUID, datetime] = {}
        for row in rows:
            threshold = thresholds.get(models[row["device_id"]])
            if threshold is None:  # of a model made since the thresholds were read: it is for the next sweep
                continue
            if row["last_seen_at"] < until - threshold and judged.heard_for >= threshold:
                silent[row["device_id"]] = until - threshold
            else:
                look_at = max(row["last_seen_at"] + threshold, until + max(threshold - judged.heard_for, _NOTHING))
                later[row["device_id"]] = min(look_at, until + offline_incidents.CHECK_MAX)
        for device_id, until_then in (await _at_commands(connection, list(silent), now)).items():
            del silent[device_id]
            later[device_id] = min(until_then, until + offline_incidents.CHECK_MAX)
        marked = await self._mark(connection, shard, silent, now) if silent else 0
        if later:
            await _look_later(connection, shard, later)
        last = rows[-1]
        return marked, _Progress(last["check_at"], last["device_id"]) if len(rows) == DEVICES_MAX else None

    async def _judged(self, now: datetime | None) -> Mapping[int, _Judged]:
        """What may be judged of each shard that can be heard: the silence up to when all that it accepted is stored."""
        # On a cluster one node that is away must not silence the shards of the others: each is asked for alone.
        alone = isinstance(self._redis, RedisCluster)
        together = [[shard] for shard in range(self._shards)] if alone else [list(range(self._shards))]
        oldest: dict[int, Any] = {}
        heard: dict[int, Heard] = {}
        for shards in together:
            try:
                oldest |= await self._oldest(shards)
                heard |= await presence.heard(self._redis, shards)
            except RedisAway:
                continue
        moment = time.monotonic() if now is None else now.timestamp()
        self._begun = moment if self._begun is None else self._begun
        self._heard_again |= dict.fromkeys(self._away & oldest.keys(), moment)
        self._away = set(range(self._shards)) - oldest.keys()
        self._tell(set(range(self._shards)) - heard.keys())
        if moment - self._begun < GRACE.total_seconds():
            return {}
        return {
            shard: _Judged(_until(oldest[shard], edges, now), self._heard_for(shard, edges, moment))
            for shard, edges in heard.items()
            if shard in oldest
        }

    def _heard_for(self, shard: int, edges: Heard, moment: float) -> timedelta:
        """For how long devices could be heard without a gap, as far as edges tell and this process saw."""
        told = _ALWAYS if edges.since_ms is None else MILLISECOND * (edges.until_ms - edges.since_ms)
        again = self._heard_again.get(shard)
        return told if again is None else min(told, timedelta(seconds=moment - again))

    def _tell(self, unheard: set[int]) -> None:
        if unheard != self._unheard:
            logs.event(log, logging.WARNING, "devices_unheard", shards=sorted(unheard))
        self._unheard = unheard

    async def _oldest(self, shards: Sequence[int]) -> dict[int, Any]:
        """The oldest entry of each shard's stream, in a list that may be empty; shards without a stream are left out.

        One round trip for all. Raises RedisAway.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for shard in shards:
            pipeline.exists(keys.ingest(shard))
            pipeline.xrange(keys.ingest(shard), count=1)
        answers = await pipeline.execute()
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
            await device_status.make_due(connection, marked)
            if self._distributed:
                await two_phases(connection)
            await offline_incidents.open_for(connection, marked, now)
        return len(marked)


async def _look_later(connection: Connection, shard: int, devices: Mapping[UUID, datetime]) -> None:
    async with connection.transaction():
        await connection.execute("SELECT FROM shards WHERE shard = $1 FOR UPDATE", shard)
        await connection.execute(
            """UPDATE device_state s SET check_at = later.check_at
                 FROM unnest($2::uuid[], $3::timestamptz[]) AS later (device_id, check_at)
                WHERE s.shard = $1 AND s.device_id = later.device_id AND s.check_at < later.check_at""",
            shard,
            list(devices),
            list(devices.values()),
        )


async def _busy(connection: Connection, shards: Collection[int]) -> set[int]:
    """The shards in whose outbox much waits for the flusher."""
    rows = await connection.fetch(
        """SELECT s.shard FROM unnest($1::smallint[]) AS s (shard)
            WHERE (SELECT count(*) FROM
                       (SELECT FROM event_outbox o WHERE o.shard = s.shard LIMIT $2) AS waiting) >= $2""",
        list(shards),
        OUTBOX_MAX,
    )
    return {row["shard"] for row in rows}


async def _thresholds(connection: Connection) -> dict[UUID, timedelta]:
    rows = await connection.fetch("SELECT id, offline_threshold_s FROM device_models")
    return {row["id"]: timedelta(seconds=row["offline_threshold_s"]) for row in rows}


async def _models(connection: Connection, device_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    rows = await connection.fetch("SELECT id, model_id FROM devices WHERE id = ANY($1::uuid[])", device_ids)
    return {row["id"]: row["model_id"] for row in rows}


async def _at_commands(connection: Connection, device_ids: Sequence[UUID], now: datetime) -> dict[UUID, datetime]:
    """Those of these devices that are at a command, which may keep them from calling, and when it times out at last."""
    rows = await connection.fetch(
        """SELECT device_id, max(due_at) AS due_at FROM commands
            WHERE device_id = ANY($1::uuid[]) AND status IN ('pending', 'in_progress') AND delivered_at IS NOT NULL
              AND due_at > $2 GROUP BY device_id""",
        device_ids,
        now,
    )
    return {row["device_id"]: row["due_at"] for row in rows}


def _until(oldest: Sequence[Any], heard: Heard, now: datetime | None) -> datetime:
    """The time of a shard's oldest entry, or of its edges' last beat, by the clocks that date messages."""
    ahead = MILLISECOND * (heard.ahead_ms or 0) if now is None else timedelta()
    if oldest:
        entry_id: bytes = oldest[0][0]
        return EPOCH + MILLISECOND * int(entry_id.partition(b"-")[0]) + ahead
    if now is not None:
        return now
    return datetime.now(UTC) if heard.ahead_ms is None else EPOCH + MILLISECOND * heard.until_ms + ahead
