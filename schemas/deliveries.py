"""What the dispatcher notes of deliveries and others read: the ledger, latencies by minute, the last attempts.

The ledger: accepted = delivered + pending + expired + dropped + superseded, for each connector, at every moment. Events
are accepted when a connector's place in the log moves past them; those that lie ahead of it are its backlog.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct

from schemas import event_log
from schemas.postgres import Connection, Executor, Pool

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


_LEDGER = """
    SELECT c.accepted, c.delivered, c.expired, c.dropped, c.superseded, c.status, c.project_id, c.event_types,
           w.pending, w.oldest, now() AS now
      FROM data_connectors c
     CROSS JOIN LATERAL (SELECT count(*) AS pending, min(owed_since) AS oldest
                           FROM waiting_deliveries WHERE connector_id = c.id) w
     WHERE c.id = $1
"""
_BACKLOG = """
    SELECT count(*) AS events, min(e.stored_at) AS oldest
      FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[]) AS ahead (shard, low, high, since)
      JOIN events e ON e.shard = ahead.shard AND e.seq >= ahead.low AND e.seq < ahead.high
                   AND e.stored_at >= ahead.since
     WHERE e.shard = ANY($1) AND e.project_id = $5 AND ($6::text[] = '{}' OR e.type = ANY ($6))
"""


async def ledger(pool: Pool, connector_id: str) -> Ledger | None:
    """The ledger of one connector, from one snapshot; None if there is no such connector."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(_LEDGER, connector_id)
        if row is None:
            return None
        backlog, oldest = 0, row["oldest"]
        if row["status"] == "ACTIVE":
            backlog, oldest_ahead = await _backlog(connection, connector_id, row["project_id"], row["event_types"])
            oldest = min(filter(None, (oldest, oldest_ahead)), default=None)
    return Ledger(
        accepted=row["accepted"],
        delivered=row["delivered"],
        pending=row["pending"],
        expired=row["expired"],
        dropped=row["dropped"],
        superseded=row["superseded"],
        backlog=backlog,
        oldest_pending_s=_age_s(oldest, row["now"]),
    )


async def _backlog(
    connection: Connection, connector_id: str, project_id: UUID, event_types: list[str]
) -> tuple[int, datetime | None]:
    """The events that lie ahead of a connector: how many, and when the oldest was stored."""
    places = await connection.fetch(
        "SELECT shard, seq, stored_at FROM connector_positions WHERE connector_id = $1", connector_id
    )
    heads = await event_log.heads(connection, [place["shard"] for place in places])
    behind = [place for place in places if place["seq"] < heads[place["shard"]]]
    row = await connection.fetchrow(
        _BACKLOG,
        [place["shard"] for place in behind],
        [place["seq"] for place in behind],
        [heads[place["shard"]] for place in behind],
        [place["stored_at"] for place in behind],
        project_id,
        event_types,
    )
    assert row is not None
    return row["events"], row["oldest"]


def _age_s(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


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
                  (SELECT min(owed_since) FROM waiting_deliveries) AS oldest, now() AS now
             FROM data_connectors"""
    )
    assert row is not None
    sums = dict(row)
    oldest, now = sums.pop("oldest"), sums.pop("now")
    oldest = min(filter(None, (oldest, await _oldest_ahead(executor))), default=None)
    return Totals(**sums, oldest_pending_s=_age_s(oldest, now))


async def _oldest_ahead(executor: Executor) -> datetime | None:
    """When the oldest event was stored that lies ahead of an active connector."""
    heads = await event_log.heads(executor, await event_log.shards(executor))
    behind = await executor.fetch(
        """SELECT p.shard, min(p.seq) AS low, h.next_seq AS high, min(p.stored_at) AS since, c.project_id
             FROM unnest($1::smallint[], $2::bigint[]) AS h (shard, next_seq)
             JOIN connector_positions p ON p.shard = h.shard AND p.seq < h.next_seq
             JOIN data_connectors c ON c.id = p.connector_id
            WHERE c.status = 'ACTIVE' GROUP BY p.shard, h.next_seq, c.project_id""",
        list(heads),
        list(heads.values()),
    )
    if not behind:
        return None
    oldest: datetime | None = await executor.fetchval(
        """SELECT min(first.stored_at)
             FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::uuid[])
                    AS ahead (shard, low, high, since, project_id)
            CROSS JOIN LATERAL (
                  SELECT stored_at FROM events
                   WHERE project_id = ahead.project_id AND shard = ahead.shard AND shard = ANY($6::smallint[])
                     AND seq >= ahead.low AND seq < ahead.high AND stored_at >= ahead.since
                   ORDER BY project_id, shard, seq LIMIT 1) first""",
        *zip(*behind, strict=True),
        list(heads),
    )
    return oldest


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
