"""What is noted of attempts beside the ledger: the last of each connector, and latencies by minute.

Written a little later and in one go. A crash loses the last second of it, which is why nothing is decided by it.

However many connectors are busy, one write has so many rows and no more: what is left waits for the next, in turn, and
of each connector no more is kept than its log holds. So a thousand busy connectors delay the writing and nothing else.
"""

import logging
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from datetime import timedelta

import msgspec
from prometheus_client import Histogram

from schemas.deliveries import ATTEMPTS_KEPT, LATENCY_BOUNDS_MS, MINUTES_KEPT
from schemas.metrics import LAG_BUCKETS_S, LATENCY_BUCKETS_S, Metrics
from schemas.postgres import Pool
from workers.dispatcher.client import Answer
from workers.dispatcher.delivery import Delivery
from workers.dispatcher.store import columns, moment

log = logging.getLogger(__name__)

INTERVAL_S = 0.25
SUCCESSES_NOTED = 5
"""Of each connector between two writes of its own: the log holds few, and writing more would be in vain."""
ATTEMPTS_AT_ONCE, MINUTES_AT_ONCE = 600, 300
"""Rows of one write; the connector that reaches the limit is written whole."""
TRIMMED_EVERY_S = 60.0


_WRITE = """
    WITH attempts AS (
        INSERT INTO delivery_attempts
               (connector_id, at, event_id, attempt, status, cause, latency_ms, answer, waiting_id)
        SELECT n.* FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::integer[], $5::smallint[], $6::text[],
                               $7::integer[], $8::text[], $9::bigint[])
                          AS n (id, at, event_id, attempt, status, cause, latency_ms, answer, waiting_id)
          JOIN (SELECT id FROM data_connectors WHERE id = ANY($1) FOR KEY SHARE SKIP LOCKED) c USING (id)
    )
    INSERT INTO delivery_minutes AS m (connector_id, minute, successes, errors, latencies)
    SELECT n.id, n.minute, n.successes, n.errors,
           translate(n.latencies, '[]', '{}')::integer[]
      FROM unnest($10::text[], $11::timestamptz[], $12::integer[], $13::integer[], $14::text[])
             AS n (id, minute, successes, errors, latencies)
      JOIN (SELECT id FROM data_connectors WHERE id = ANY($10) FOR KEY SHARE SKIP LOCKED) c USING (id)
    ON CONFLICT (connector_id, minute) DO UPDATE
       SET successes = m.successes + excluded.successes, errors = m.errors + excluded.errors,
           latencies = (SELECT array_agg(a + b ORDER BY n)
                          FROM unnest(m.latencies, excluded.latencies) WITH ORDINALITY u (a, b, n))
"""
"""One statement, so one commit; both parts leave out connectors that are being deleted."""


class Noted:
    """What happened to one connector since its attempts were last written."""

    __slots__ = ("attempts", "successes")

    def __init__(self) -> None:
        self.attempts: deque[tuple[object, ...]] = deque(maxlen=ATTEMPTS_KEPT)
        self.successes = 0


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
        self._tests: list[tuple[object, ...]] = []
        """Of test events, which somebody waits for."""
        self._minutes: dict[tuple[str, int], list[int]] = {}
        self._touched: set[str] = set()
        self._trimmed_at = 0.0

    def note(self, connector_id: str, delivery: Delivery, answer: Answer, now_s: float) -> None:
        """Note an attempt that has just ended."""
        latency_ms = answer.latency_s * 1000
        minute = connector_id, int(now_s) // 60
        counts = self._minutes.get(minute)
        if counts is None:
            counts = self._minutes[minute] = [0] * (3 + len(LATENCY_BOUNDS_MS))
        counts[2 + bisect_left(LATENCY_BOUNDS_MS, latency_ms)] += 1
        self._latencies.add(answer.latency_s)
        self._outcomes[answer.cause or "delivered"] += 1
        noted = self._noted.get(connector_id)
        if noted is None:
            noted = self._noted[connector_id] = Noted()
        if answer.cause is None:
            self._lags.add(now_s - delivery.owed_since)
            counts[0] += 1
            noted.successes += 1
            if noted.successes > SUCCESSES_NOTED and not delivery.test:
                return
        else:
            counts[1] += 1
        attempt = delivery.attempts
        (self._tests if delivery.test else noted.attempts).append(
            (
                *(connector_id, moment(now_s), delivery.event_id, attempt, answer.status, answer.cause),
                *(int(latency_ms), answer.text, delivery.waiting_id or None),
            )
        )

    async def write(self, now_s: float) -> bool:
        """Write what was noted, as much as one write takes; returns whether there is more.

        What a store that is away refuses is forgotten.
        """
        for outcome, count in self._outcomes.items():
            self._metrics.delivery_attempts.labels(outcome).inc(count)
        self._outcomes.clear()
        self._latencies.pour(self._metrics.delivery_seconds)
        self._lags.pour(self._metrics.delivery_lag_seconds)
        attempts, minutes = self._take_attempts(), self._take_minutes()
        if attempts or minutes:
            await self._pool.execute(_WRITE, *columns(attempts, 9), *columns(minutes, 5))
        if self._touched and not 0 <= now_s - self._trimmed_at < TRIMMED_EVERY_S:
            self._trimmed_at = now_s
            await self._trim(now_s)
        return bool(self._noted or self._minutes)

    def _take_attempts(self) -> list[tuple[object, ...]]:
        taken, self._tests = self._tests, []
        for connector_id in list(self._noted):
            if len(taken) >= ATTEMPTS_AT_ONCE:
                break
            taken += self._noted.pop(connector_id).attempts
            self._touched.add(connector_id)
        return taken

    def _take_minutes(self) -> list[tuple[object, ...]]:
        taken = list(self._minutes)[:MINUTES_AT_ONCE]
        return [
            (connector_id, moment(60 * minute), counts[0], counts[1], msgspec.json.encode(counts[2:]).decode())
            for connector_id, minute in taken
            for counts in (self._minutes.pop((connector_id, minute)),)
        ]

    async def _trim(self, now_s: float) -> None:
        touched, self._touched = list(self._touched), set()
        await self._pool.execute(
            """DELETE FROM delivery_attempts a
                USING (SELECT c.id, kind.failed,
                              (SELECT id FROM delivery_attempts
                                WHERE connector_id = c.id AND (cause IS NOT NULL) = kind.failed
                                ORDER BY id DESC OFFSET $2 LIMIT 1) AS last
                         FROM unnest($1::text[]) AS c (id) CROSS JOIN (VALUES (true), (false)) AS kind (failed)) AS old
                WHERE a.connector_id = old.id AND (a.cause IS NOT NULL) = old.failed AND a.id <= old.last""",
            touched,
            ATTEMPTS_KEPT,
        )
        await self._pool.execute(
            "DELETE FROM delivery_minutes WHERE connector_id = ANY($1) AND minute < $2",
            touched,
            moment(now_s) - MINUTES_KEPT - timedelta(minutes=1),
        )
