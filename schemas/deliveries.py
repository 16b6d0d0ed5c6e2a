"""What the dispatcher notes of deliveries and others read: the ledger, latencies by minute, the last attempts.

The ledger: accepted = delivered + pending + expired + dropped + superseded, for each connector, at every moment. Events
are accepted when a connector's place in the log moves past them; those that lie ahead of it are its backlog.
"""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from schemas.postgres import Executor

LATENCY_BOUNDS_MS = (
    *(1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700),
    *(1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000),
)
"""Upper bounds of the buckets in `delivery_minutes.latencies`; one more bucket holds all above."""
MINUTES_KEPT = timedelta(hours=4)
METRICS_WINDOW = timedelta(hours=3)
ATTEMPTS_KEPT = 100


class Ledger(Struct, kw_only=True):
    """What became of the events that a connector accepted, and what lies ahead of it."""

    accepted: int
    delivered: int
    pending: int
    expired: int
    dropped: int
    superseded: int
    backlog: int
    oldest_pending_s: float
    """Age of the oldest event that is neither delivered nor given up, in waiting or in the backlog; 0 without any."""


_BACKLOG = """
    SELECT {what} FROM connector_positions p
      JOIN shards s USING (shard)
      JOIN events e ON e.project_id = c.project_id AND e.shard = p.shard AND e.seq >= p.seq AND e.seq < s.next_seq
                   AND e.stored_at >= p.stored_at
     WHERE p.connector_id = c.id AND c.status = 'ACTIVE' AND (c.event_types = '{{}}' OR e.type = ANY (c.event_types))
"""
_LEDGER = f"""
    SELECT c.accepted, c.delivered, c.expired, c.dropped, c.superseded, w.pending,
           ({_BACKLOG.format(what="count(*)")}) AS backlog,
           greatest(0, extract(epoch FROM now() - least(w.oldest, ({_BACKLOG.format(what="min(e.stored_at)")}))))::float
               AS oldest_pending_s
      FROM data_connectors c
     CROSS JOIN LATERAL (SELECT count(*) AS pending, min(owed_since) AS oldest
                           FROM waiting_deliveries WHERE connector_id = c.id) w
     WHERE c.id = $1
"""


async def ledger(executor: Executor, connector_id: str) -> Ledger | None:
    """The ledger of one connector, from one snapshot; None if there is no such connector."""
    row = await executor.fetchrow(_LEDGER, connector_id)
    if row is None:
        return None
    return Ledger(**{**dict(row), "oldest_pending_s": row["oldest_pending_s"] or 0.0})


class Totals(Struct, kw_only=True):
    """The sums over all connectors that metrics show."""

    accepted: int
    delivered: int
    pending: int
    expired: int
    dropped: int
    superseded: int
    oldest_pending_s: float
    active: int
    failing: int


async def totals(executor: Executor) -> Totals:
    """Cheap enough for every scrape: of events ahead of a connector's place it looks at the first of each shard only.

    It takes no account of event types there, so `oldest_pending_s` may be of an event that nobody wants.
    """
    row = await executor.fetchrow(
        """SELECT coalesce(sum(accepted), 0)::bigint AS accepted, coalesce(sum(delivered), 0)::bigint AS delivered,
                  coalesce(sum(expired), 0)::bigint AS expired, coalesce(sum(dropped), 0)::bigint AS dropped,
                  coalesce(sum(superseded), 0)::bigint AS superseded,
                  coalesce(sum(accepted - delivered - expired - dropped - superseded), 0)::bigint AS pending,
                  count(*) FILTER (WHERE status = 'ACTIVE') AS active,
                  count(*) FILTER (WHERE status = 'ACTIVE' AND failing_since IS NOT NULL) AS failing,
                  coalesce(greatest(0, extract(epoch FROM now() - least(
                      (SELECT min(owed_since) FROM waiting_deliveries),
                      min((SELECT min(first.stored_at)
                             FROM connector_positions p
                             JOIN shards s USING (shard)
                            CROSS JOIN LATERAL (
                                  SELECT e.stored_at FROM events e
                                   WHERE e.project_id = c.project_id AND e.shard = p.shard AND e.seq >= p.seq
                                     AND e.seq < s.next_seq AND e.stored_at >= p.stored_at
                                   ORDER BY e.project_id, e.shard, e.seq LIMIT 1) first
                            WHERE p.connector_id = c.id AND c.status = 'ACTIVE'))))), 0)::float AS oldest_pending_s
             FROM data_connectors c"""
    )
    assert row is not None
    return Totals(**dict(row))


class Attempts(Struct, kw_only=True):
    """Attempts of a connector in the last three hours."""

    successes: int
    errors: int
    latency_p99_s: float


async def recent(executor: Executor, connector_id: str, now: datetime) -> Attempts:
    """What `…:metrics` tells."""
    rows = await executor.fetch(
        "SELECT successes, errors, latencies FROM delivery_minutes WHERE connector_id = $1 AND minute > $2",
        connector_id,
        now - METRICS_WINDOW,
    )
    buckets = [sum(column) for column in zip(*(row["latencies"] for row in rows), strict=True)]
    return Attempts(
        successes=sum(row["successes"] for row in rows),
        errors=sum(row["errors"] for row in rows),
        latency_p99_s=percentile_s(buckets, 0.99),
    )


def percentile_s(buckets: list[int], share: float) -> float:
    """The latency that this share of the attempts did not exceed, in seconds, within its bucket by interpolation."""
    wanted = sum(buckets) * share
    lower = 0
    for count, upper in zip(buckets, (*LATENCY_BOUNDS_MS, 2 * LATENCY_BOUNDS_MS[-1]), strict=False):
        if count and wanted <= count:
            return (lower + (upper - lower) * wanted / count) / 1000
        wanted -= count
        lower = upper
    return 0.0


async def attempts(executor: Executor, connector_id: str) -> list[dict[str, Any]]:
    """The last attempts, newest first."""
    rows = await executor.fetch(
        """SELECT at, event_id, attempt, status, cause, latency_ms, answer, waiting_id FROM delivery_attempts
            WHERE connector_id = $1 ORDER BY id DESC LIMIT $2""",
        connector_id,
        ATTEMPTS_KEPT,
    )
    return [dict(row) for row in rows]
