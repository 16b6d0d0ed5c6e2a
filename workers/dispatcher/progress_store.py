"""The SQL of one commit: places passed, counts, and rows of deliveries that wait or have ended, of many connectors.

A commit names, for each connector, the epoch that this process believes in; connectors whose epoch is another are left
out, whole: they have a new owner, or were disabled. Rows of connectors are locked in the order of their ids, as by all;
one that somebody else holds is left out too and told again later, since it must not hold up the others of its commit.
"""

from datetime import datetime
from typing import Any, NamedTuple

from schemas.postgres import Connection
from workers.checkpoints import Checkpoint
from workers.dispatcher.connector import Connector
from workers.dispatcher.delivery import Delivery
from workers.dispatcher.progress import Progress
from workers.dispatcher.store import columns, moment

_COMMIT = """
    WITH given AS (
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[],
                             $7::timestamptz[], $8::timestamptz[], $9::integer[])
                   AS g (id, epoch, accepted, delivered, expired, attempted_at, succeeded_at, failing_since, failures)
    ), mine AS (
        SELECT c.id FROM data_connectors c JOIN given g ON g.id = c.id AND g.epoch = c.epoch
         ORDER BY c.id FOR NO KEY UPDATE OF c SKIP LOCKED
    ), moved AS (
        UPDATE connector_positions p SET seq = n.seq, stored_at = n.stored_at
          FROM unnest($10::text[], $11::smallint[], $12::bigint[], $13::timestamptz[])
                 AS n (connector_id, shard, seq, stored_at)
         WHERE p.connector_id = n.connector_id AND p.shard = n.shard AND n.connector_id IN (SELECT id FROM mine)
    ), written AS (
        UPDATE data_connectors c
           SET epoch = c.epoch + 1,
               accepted = c.accepted + g.accepted, delivered = c.delivered + g.delivered,
               expired = c.expired + g.expired,
               last_attempt_at = greatest(c.last_attempt_at, g.attempted_at),
               last_success_at = greatest(c.last_success_at, g.succeeded_at),
               failing_since = g.failing_since, failures_in_a_row = g.failures,
               warned_days = CASE WHEN g.failing_since IS NULL THEN 0 ELSE c.warned_days END
          FROM given g JOIN mine USING (id)
         WHERE c.id = g.id
        RETURNING c.id
    )
    SELECT c.id, w.id IS NOT NULL AS written
      FROM given g JOIN data_connectors c ON c.id = g.id AND c.epoch = g.epoch LEFT JOIN written w ON w.id = c.id
"""

_SET_APART = """
    INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, attempts, owed_since, next_at)
    SELECT * FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::timestamptz[], $5::text[], $6::integer[],
                         $7::timestamptz[], $8::timestamptz[])
    RETURNING id, connector_id, shard, seq, cause
"""

_END = """
    WITH gone AS (
        DELETE FROM waiting_deliveries w
         USING unnest($1::bigint[], $2::text[], $3::text[]) AS e (id, connector_id, fate)
         WHERE w.id = e.id AND w.connector_id = e.connector_id
        RETURNING w.connector_id, e.fate
    ), sums AS (
        SELECT connector_id, count(*) FILTER (WHERE fate = 'delivered') AS delivered,
               count(*) FILTER (WHERE fate = 'expired') AS expired, count(*) FILTER (WHERE fate = 'dropped') AS dropped
          FROM gone GROUP BY connector_id
    )
    UPDATE data_connectors c
       SET delivered = c.delivered + s.delivered, expired = c.expired + s.expired, dropped = c.dropped + s.dropped
      FROM sums s WHERE c.id = s.connector_id
"""

_RETRY = """
    UPDATE waiting_deliveries w SET cause = CASE WHEN w.cause = 'in_flight' THEN 'failed' ELSE w.cause END,
                                    attempts = r.attempts, next_at = r.next_at
      FROM unnest($1::bigint[], $2::text[], $3::integer[], $4::timestamptz[]) AS r (id, connector_id, attempts, next_at)
     WHERE w.id = r.id AND w.connector_id = r.connector_id
"""

Batch = list[tuple[Connector, Progress]]


class Committed(NamedTuple):
    """What became of a commit, by the ids of its connectors. Those in neither set are somebody else's."""

    written: set[str]
    held: set[str]
    """Somebody holds the connector: nothing of it was written."""


async def commit(connection: Connection, batch: Batch, apart_until: datetime, checkpoint: Checkpoint) -> Committed:
    """One transaction for all connectors of the batch.

    Deliveries set apart get their rows' ids; should this process die, they are due again at `apart_until`, or as soon
    as somebody takes over.
    """
    plain = not any(p.failed or p.apart or p.ended or p.retried for _, p in batch)
    if plain:
        return await _commit(connection, batch)
    async with connection.transaction():
        committed = await _commit(connection, batch)
        kept = [(connector.id, progress) for connector, progress in batch if connector.id in committed.written]
        await _set_apart(connection, kept, apart_until)
        ended = [(d.waiting_id, i, d.end.value) for i, p in kept for d in p.ended]
        if ended:
            await connection.execute(_END, *columns(ended, 3))
        retried = [(d.waiting_id, i, d.attempts, moment(d.next_at)) for i, p in kept for d in p.retried]
        if retried:
            await connection.execute(_RETRY, *columns(retried, 4))
        checkpoint("in_progress")
    return committed


async def _commit(connection: Connection, batch: Batch) -> Committed:
    connectors = [
        (
            c.id,
            c.epoch,
            p.accepted,
            p.delivered,
            p.expired,
            *(_optional(at) for at in c.health.times()),
            c.pace.failures,
        )
        for c, p in batch
    ]
    places = [(c.id, *position) for c, p in batch for position in p.positions]
    rows = await connection.fetch(_COMMIT, *columns(connectors, 9), *columns(places, 4))
    return Committed({row["id"] for row in rows if row["written"]}, {row["id"] for row in rows if not row["written"]})


async def _set_apart(connection: Connection, kept: list[tuple[str, Progress]], apart_until: datetime) -> None:
    rows: list[tuple[Any, ...]] = []
    flying: dict[tuple[str, int, int], Delivery] = {}
    for connector_id, progress in kept:
        rows += [_waiting(connector_id, d, "failed", moment(d.next_at)) for d in progress.failed]
        for delivery in progress.apart:
            row = _waiting(connector_id, delivery, "in_flight", apart_until)
            rows.append(row)
            flying[row[:3]] = delivery
    if not rows:
        return
    for made in await connection.fetch(_SET_APART, *columns(rows, 8)):
        if made["cause"] == "in_flight":
            flying[made["connector_id"], made["shard"], made["seq"]].waiting_id = made["id"]


def _waiting(connector_id: str, delivery: Delivery, cause: str, next_at: datetime) -> tuple[Any, ...]:
    event = delivery.event
    assert event is not None
    owed_since = moment(delivery.owed_since)
    return (connector_id, event.shard, event.seq, event.stored_at, cause, delivery.attempts, owed_since, next_at)


def _optional(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
