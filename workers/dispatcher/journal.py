"""What is noted of attempts beside the ledger: the last of each connector, and latencies by minute.

Written a little later and in one go. A crash loses the last second of it, which is why nothing is decided by it.
"""

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from prometheus_client import Histogram

from schemas.deliveries import ATTEMPTS_KEPT, LATENCY_BOUNDS_MS, MINUTES_KEPT
from schemas.metrics import LAG_BUCKETS_S, LATENCY_BUCKETS_S, Metrics
from schemas.postgres import Pool
from workers.dispatcher.client import Answer
from workers.dispatcher.queue import Delivery
from workers.dispatcher.store import moment

log = logging.getLogger(__name__)

INTERVAL_S = 0.25
SUCCESSES_NOTED = 5
FAILURES_NOTED = 25
"""Of each connector in one interval: the log holds few of them, and writing more would be in vain."""
TRIMMED_EVERY_S = 60.0


class Noted:
    """What happened to one connector since the last write."""

    __slots__ = ("attempts", "failures", "minutes", "successes")

    def __init__(self) -> None:
        self.attempts: list[tuple[object, ...]] = []
        self.successes = self.failures = 0
        self.minutes: dict[int, list[int]] = {}


class Sums:
    """Observations kept back for a histogram with these buckets."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Observe."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def pour(self, histogram: Histogram) -> None:
        """Hand all over."""
        histogram._sum.inc(self._sum)
        self._sum = 0.0
        for place, count in enumerate(self._counts):
            if count:
                histogram._buckets[place].inc(count)
                self._counts[place] = 0


class Journal:
    """Notes attempts in memory, and writes them every so often."""

    def __init__(self, pool: Pool, metrics: Metrics) -> None:
        self._pool = pool
        self._metrics = metrics
        self._outcomes: Counter[str] = Counter()
        self._latencies = Sums(LATENCY_BUCKETS_S)
        self._lags = Sums(LAG_BUCKETS_S)
        self._noted: dict[str, Noted] = {}
        self._touched: set[str] = set()
        self._trimmed_at = 0.0

    def note(self, connector_id: str, delivery: Delivery, answer: Answer, now_s: float) -> None:
        """Note an attempt that has just ended."""
        noted = self._noted.get(connector_id)
        if noted is None:
            noted = self._noted[connector_id] = Noted()
        latency_ms = answer.latency_s * 1000
        minute = int(now_s) // 60
        counts = noted.minutes.get(minute)
        if counts is None:
            counts = noted.minutes[minute] = [0] * (3 + len(LATENCY_BOUNDS_MS))
        counts[2 + bisect_left(LATENCY_BOUNDS_MS, latency_ms)] += 1
        self._latencies.add(answer.latency_s)
        self._outcomes[answer.cause or "delivered"] += 1
        if answer.cause is None:
            self._lags.add(now_s - delivery.owed_since)
            counts[0] += 1
            noted.successes += 1
            if noted.successes > SUCCESSES_NOTED and not delivery.test:
                return
        else:
            counts[1] += 1
            noted.failures += 1
            if noted.failures > FAILURES_NOTED and not delivery.test:
                return
        attempt = delivery.attempts
        noted.attempts.append(
            (
                *(connector_id, moment(now_s), delivery.event_id, attempt, answer.status, answer.cause),
                *(int(latency_ms), answer.text, delivery.waiting_id or None),
            )
        )

    async def write(self, now_s: float) -> None:
        """Write what was noted. What a store that is away refuses is forgotten."""
        noted, self._noted = self._noted, {}
        for outcome, count in self._outcomes.items():
            self._metrics.delivery_attempts.labels(outcome).inc(count)
        self._outcomes.clear()
        self._latencies.pour(self._metrics.delivery_seconds)
        self._lags.pour(self._metrics.delivery_lag_seconds)
        if noted:
            attempts = [attempt for each in noted.values() for attempt in each.attempts]
            minutes = [
                (connector_id, moment(60 * minute), counts[0], counts[1], counts[2:])
                for connector_id, each in noted.items()
                for minute, counts in each.minutes.items()
            ]
            self._touched.update(noted)
            async with self._pool.acquire() as connection:
                await connection.executemany(
                    """INSERT INTO delivery_attempts
                              (connector_id, at, event_id, attempt, status, cause, latency_ms, answer, waiting_id)
                       SELECT id, $2, $3, $4, $5, $6, $7, $8, $9 FROM data_connectors WHERE id = $1 FOR KEY SHARE""",
                    attempts,
                )
                await connection.executemany(
                    """INSERT INTO delivery_minutes AS m (connector_id, minute, successes, errors, latencies)
                       SELECT id, $2, $3, $4, $5 FROM data_connectors WHERE id = $1 FOR KEY SHARE
                       ON CONFLICT (connector_id, minute) DO UPDATE
                          SET successes = m.successes + excluded.successes, errors = m.errors + excluded.errors,
                              latencies = (SELECT array_agg(a + b ORDER BY n)
                                             FROM unnest(m.latencies, excluded.latencies) WITH ORDINALITY u (a, b, n))
                    """,
                    minutes,
                )
        if self._touched and not 0 <= now_s - self._trimmed_at < TRIMMED_EVERY_S:
            self._trimmed_at = now_s
            await self._trim(now_s)

    async def _trim(self, now_s: float) -> None:
        touched, self._touched = list(self._touched), set()
        await self._pool.execute(
            """DELETE FROM delivery_attempts a
                USING (SELECT c.id, (SELECT id FROM delivery_attempts WHERE connector_id = c.id
                                      ORDER BY id DESC OFFSET $2 LIMIT 1) AS last
                         FROM unnest($1::text[]) AS c (id)) AS old
                WHERE a.connector_id = old.id AND a.id <= old.last""",
            touched,
            ATTEMPTS_KEPT,
        )
        await self._pool.execute(
            "DELETE FROM delivery_minutes WHERE connector_id = ANY($1) AND minute < $2",
            touched,
            moment(now_s) - MINUTES_KEPT - timedelta(minutes=1),
        )
