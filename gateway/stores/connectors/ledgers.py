"""What became of data connectors' deliveries: their ledgers, attempts and latencies, as dispatchers noted them."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from gateway.stores.events import by_index
from schemas import event_log, placement
from schemas.deliveries import ATTEMPTS_KEPT, LATENCY_BOUNDS_MS, METRICS_WINDOW, SLOT_LOCKS, SLOTS
from schemas.events import rfc3339
from schemas.placement import Placement
from schemas.postgres import Connection, Executor, Pool, PostgresAway

LOOKED = 10_000
"""Events ahead of a connector that are looked at, shared by the shards; at least `LOOKED_OF_SHARD_MIN` of each."""
LOOKED_OF_SHARD_MIN = 100


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
    expired_unread: int
    """Of those that expired, the events that the log did not keep until the connector came to read them."""
    expired_unread_from: str | None
    expired_unread_until: str | None
    """When the first and the last of them was stored; null without any."""


_LEDGER = """
    SELECT c.accepted, c.delivered, c.expired, c.dropped, c.superseded, c.status, c.project_id, c.event_types,
           c.backlog, c.owed_since, c.expired_unread, c.expired_unread_from, c.expired_unread_until,
           w.pending, w.oldest, now() AS now
      FROM data_connectors c
     CROSS JOIN LATERAL (SELECT count(*) AS pending, min(owed_since) AS oldest
                           FROM waiting_deliveries WHERE connector_id = c.id) w
     WHERE c.id = $1
"""
_AHEAD = """
    SELECT s.shard, count(*) AS looked, count(*) FILTER (WHERE $6::text[] = '{}' OR e.type = ANY ($6)) AS events,
           min(e.stored_at) FILTER (WHERE $6::text[] = '{}' OR e.type = ANY ($6)) AS oldest
      FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[]) AS s (shard, low, high, since)
     CROSS JOIN LATERAL (
           SELECT type, stored_at FROM events
            WHERE project_id = $5 AND shard = s.shard AND shard = ANY($1) AND seq >= s.low AND seq < s.high
              AND stored_at >= s.since
            ORDER BY project_id, shard, seq LIMIT $7) e
     GROUP BY s.shard
"""


async def ledger(pool: Pool, connector_id: str) -> Ledger | None:
    """The ledger of one connector, from one snapshot; None if there is no such connector.

    Where a node of the log is away what lies ahead is what the dispatcher keeps of it.
    """
    row: Any = None
    try:
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow(_LEDGER, connector_id)
            if row is None:
                return None
            backlog, ahead = 0, None
            if row["status"] == "ACTIVE":
                backlog, ahead = await _backlog(connection, await placement.find(connection), connector_id, row)
    except PostgresAway:
        if row is None:
            raise
        backlog, ahead = row["backlog"], row["owed_since"]
    oldest = min(filter(None, (row["oldest"], ahead)), default=None)
    return Ledger(
        accepted=row["accepted"],
        delivered=row["delivered"],
        pending=row["pending"],
        expired=row["expired"],
        dropped=row["dropped"],
        superseded=row["superseded"],
        backlog=backlog,
        oldest_pending_s=_age_s(oldest, row["now"]),
        expired_unread=row["expired_unread"],
        expired_unread_from=_time(row["expired_unread_from"]),
        expired_unread_until=_time(row["expired_unread_until"]),
    )


async def _backlog(
    connection: Connection, placed: Placement, connector_id: str, row: Any
) -> tuple[int, datetime | None]:
    """The events that lie ahead of a connector: how many, and when the oldest was stored.

    Few are counted. Of many the first are looked at, and their number is what the dispatcher keeps, which may take
    minutes to know of millions: at least those that were looked at.
    """
    await connection.execute(by_index.SETTINGS)
    places = await connection.fetch(
        "SELECT shard, seq, stored_at FROM connector_positions WHERE connector_id = $1", connector_id
    )
    heads = await event_log.heads(connection, [place["shard"] for place in places])
    behind = [place for place in places if place["seq"] < heads[place["shard"]]]
    limit = max(LOOKED_OF_SHARD_MIN, LOOKED // max(1, len(behind)))

    async def look(shards: list[int]) -> list[Any]:
        spans = [place for place in behind if place["shard"] in shards]
        return await connection.fetch(
            _AHEAD,
            [place["shard"] for place in spans],
            [place["seq"] for place in spans],
            [heads[place["shard"]] for place in spans],
            [place["stored_at"] for place in spans],
            row["project_id"],
            row["event_types"],
            limit,
        )

    found = await placed.read([place["shard"] for place in behind], look, alone=True)
    looked = [each for of_shards in found.results for each in of_shards]
    events = sum(each["events"] for each in looked)
    if any(each["looked"] == limit for each in looked):
        events = max(events, row["backlog"])
    return events, min((each["oldest"] for each in looked if each["oldest"]), default=None)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


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
    backlog: int
    oldest_pending_s: float
    active: int
    failing: int
    unserved: int
    """Slots of connectors that no dispatcher owns: what is ahead of those is known to nobody."""


async def totals(executor: Executor) -> Totals:
    """Cheap enough for every scrape, however many projects there are: reads what dispatchers keep, and no events."""
    row = await executor.fetchrow(
        """SELECT coalesce(sum(accepted), 0)::bigint AS accepted, coalesce(sum(delivered), 0)::bigint AS delivered,
                  coalesce(sum(expired), 0)::bigint AS expired, coalesce(sum(dropped), 0)::bigint AS dropped,
                  coalesce(sum(superseded), 0)::bigint AS superseded,
                  coalesce(sum(accepted - delivered - expired - dropped - superseded), 0)::bigint AS pending,
                  coalesce(sum(backlog) FILTER (WHERE status = 'ACTIVE'), 0)::bigint AS backlog,
                  count(*) FILTER (WHERE status = 'ACTIVE') AS active,
                  count(*) FILTER (WHERE status = 'ACTIVE' AND failing_since IS NOT NULL) AS failing,
                  min(owed_since) FILTER (WHERE status = 'ACTIVE') AS ahead, now() AS now
             FROM data_connectors"""
    )
    assert row is not None
    sums = dict(row)
    ahead, now = sums.pop("ahead"), sums.pop("now")
    waiting = await executor.fetchval(
        """SELECT min(first.owed_since)
             FROM (SELECT id FROM data_connectors WHERE accepted > delivered + expired + dropped + superseded) c
            CROSS JOIN LATERAL (SELECT owed_since FROM waiting_deliveries WHERE connector_id = c.id
                                 ORDER BY owed_since LIMIT 1) first"""
    )
    owned = await executor.fetchval(
        """SELECT count(DISTINCT objid) FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND classid = $1 AND objid < $2 AND objsubid = 2
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
        SLOT_LOCKS,
        SLOTS,
    )
    oldest = min(filter(None, (waiting, ahead)), default=None)
    return Totals(**sums, oldest_pending_s=_age_s(oldest, now), unserved=SLOTS - owned)


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


class AttemptFilter(Struct, frozen=True):
    """Which attempts: of this time, with this result (None for both), for this cause, of this event."""

    start: datetime | None = None
    end: datetime | None = None
    failed: bool | None = None
    cause: str | None = None
    event_id: str | None = None


ALL = AttemptFilter()


async def attempts(executor: Executor, connector_id: str, wanted: AttemptFilter = ALL) -> list[dict[str, Any]]:
    """The last attempts, newest first; all that are kept, of those that are wanted."""
    rows = await executor.fetch(
        """SELECT at, event_id, attempt, status, cause, latency_ms, answer, waiting_id FROM delivery_attempts
            WHERE connector_id = $1 AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
              AND ($5::boolean IS NULL OR (cause IS NOT NULL) = $5) AND ($6::text IS NULL OR cause = $6)
              AND ($7::text IS NULL OR event_id = $7)
            ORDER BY id DESC LIMIT $2""",
        connector_id,
        2 * ATTEMPTS_KEPT,
        wanted.start,
        wanted.end,
        wanted.failed,
        wanted.cause,
        wanted.event_id,
    )
    return [dict(row) for row in rows]
