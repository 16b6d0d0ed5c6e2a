"""The SQL of the dispatcher, but for reading events (see `reading`).

A commit names, for each connector, the epoch that this process believes in; connectors whose epoch is another are left
out, whole: they have a new owner, or were disabled. Rows of connectors are locked in the order of their ids, by all;
one that somebody else holds is left out too and told again later, since it must not hold up the others of its commit.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.postgres import Connection, Executor
from workers.checkpoints import Checkpoint
from workers.dispatcher.delivery import Delivery
from workers.dispatcher.progress import Progress

if TYPE_CHECKING:
    from workers.dispatcher.connector import Connector


def moment(seconds: float) -> datetime:
    """The time so many seconds after 1970."""
    return datetime.fromtimestamp(seconds, UTC)


# Connectors --------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """What tells whether a connector's copy in memory is up to date."""

    revision: int
    starts: int


async def active(executor: Executor) -> dict[str, Known]:
    """All connectors that are to be served by somebody."""
    rows = await executor.fetch("SELECT id, revision, starts FROM data_connectors WHERE status = 'ACTIVE'")
    return {row["id"]: Known(row["revision"], row["starts"]) for row in rows}


async def configurations(executor: Executor, connector_ids: Iterable[str]) -> list[Any]:
    """Their rows, each with its organization."""
    return await executor.fetch(
        """SELECT c.*, p.organization_id FROM data_connectors c JOIN projects p ON p.id = c.project_id
            WHERE c.id = ANY($1) AND c.status = 'ACTIVE'""",
        list(connector_ids),
    )


async def take_over(connection: Connection, connector_ids: Iterable[str], now: datetime) -> list[Any]:
    """Become the owner: the one before commits nothing more, and deliveries that it had under way are due again.

    Connectors that somebody holds are left for another time.
    """
    async with connection.transaction():
        rows = await connection.fetch(
            """WITH taken AS (SELECT id FROM data_connectors WHERE id = ANY($1) AND status = 'ACTIVE'
                               ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
               UPDATE data_connectors SET epoch = epoch + 1 FROM taken WHERE data_connectors.id = taken.id
               RETURNING data_connectors.id""",
            list(connector_ids),
        )
        taken = [row["id"] for row in rows]
        await connection.execute(
            """UPDATE waiting_deliveries SET cause = 'failed', next_at = $2
                WHERE connector_id = ANY($1) AND cause = 'in_flight'""",
            taken,
            now,
        )
        return await configurations(connection, taken)


async def positions(executor: Executor, connector_ids: Iterable[str]) -> list[Any]:
    """(connector_id, shard, seq, stored_at) of each."""
    return await executor.fetch(
        "SELECT connector_id, shard, seq, stored_at FROM connector_positions WHERE connector_id = ANY($1)",
        list(connector_ids),
    )


async def overfull(executor: Executor, connector_ids: Sequence[str], waiting_max: int) -> list[str]:
    """Those of these connectors for which more events wait than may."""
    rows = await executor.fetch(
        """SELECT id FROM data_connectors
            WHERE id = ANY($1) AND accepted - delivered - expired - dropped - superseded > $2""",
        connector_ids,
        waiting_max,
    )
    return [row["id"] for row in rows]


async def drop_surplus(connection: Connection, connector_id: str, waiting_max: int, limit: int) -> int:
    """End events beyond so many that wait for a connector, a few at once: those that failed, and of them those that
    would be tried again last, which is those that failed most often. Returns how many; 0 if somebody holds it.
    """
    async with connection.transaction():
        surplus = await connection.fetchval(
            """SELECT accepted - delivered - expired - dropped - superseded - $2::bigint FROM data_connectors
                WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED""",
            connector_id,
            waiting_max,
        )
        if surplus is None or surplus <= 0:
            return 0
        dropped: int = await connection.fetchval(
            """WITH gone AS (
                   DELETE FROM waiting_deliveries WHERE id IN
                       (SELECT id FROM waiting_deliveries
                         WHERE connector_id = $1 AND attempts > 0 AND cause <> 'in_flight'
                         ORDER BY connector_id DESC, next_at DESC LIMIT $2)
                   RETURNING 1)
               SELECT count(*) FROM gone""",
            connector_id,
            min(surplus, limit),
        )
        await connection.execute(
            "UPDATE data_connectors SET dropped = dropped + $2 WHERE id = $1", connector_id, dropped
        )
        return dropped


# Tests -------------------------------------------------------------------------------------------------------


async def overdue(
    executor: Executor, connector_ids: Sequence[str], loaded: Sequence[int], before: datetime
) -> set[str]:
    """Those of these connectors that have rows that were due before this time, but those that are `loaded`.

    Not those whose queue is being dropped (see `reading.EventLog.read_due`).
    """
    rows = await executor.fetch(
        """SELECT c.id FROM unnest($1::text[]) AS c (id)
            WHERE EXISTS (SELECT FROM waiting_deliveries
                           WHERE connector_id = c.id AND next_at < $3 AND id <> ALL ($2))
              AND NOT EXISTS (SELECT FROM connector_jobs
                               WHERE connector_id = c.id AND state = 'RUNNING' AND waiting_id > 0)""",
        connector_ids,
        loaded,
        before,
    )
    return {row["id"] for row in rows}


class TestEvent(NamedTuple):
    """A test event of a connector that is not ACTIVE; `connector` is its row."""

    id: int
    body: bytes
    connector: Any


async def tested(executor: Executor) -> list[str]:
    """Connectors that are not ACTIVE and have test events waiting."""
    rows = await executor.fetch(
        """SELECT DISTINCT connector_id FROM waiting_deliveries w JOIN data_connectors c ON c.id = w.connector_id
            WHERE w.cause = 'test' AND c.status <> 'ACTIVE'"""
    )
    return [row["connector_id"] for row in rows]


async def claim_tests(executor: Executor, connector_ids: Iterable[str]) -> list[TestEvent]:
    """Take the test events of these connectors, as far as no queue holds them. They are gone from then on."""
    rows = await executor.fetch(
        """WITH claimed AS (
               DELETE FROM waiting_deliveries WHERE id IN
                   (SELECT w.id FROM waiting_deliveries w JOIN data_connectors c ON c.id = w.connector_id
                     WHERE w.connector_id = ANY($1) AND w.cause = 'test' AND w.body IS NOT NULL
                       AND c.status <> 'ACTIVE' FOR UPDATE OF w SKIP LOCKED)
               RETURNING id AS waiting_id, connector_id, body::text AS body)
           SELECT claimed.waiting_id, claimed.body, c.*, p.organization_id
             FROM claimed JOIN data_connectors c ON c.id = claimed.connector_id
             JOIN projects p ON p.id = c.project_id""",
        list(connector_ids),
    )
    return [TestEvent(row["waiting_id"], row["body"].encode(), row) for row in rows]


async def keep_backlogs(executor: Executor, known: Sequence[tuple[str, int, datetime | None]]) -> set[str]:
    """Write what lies ahead of connectors; returns the ids of those that nobody held."""
    rows = await executor.fetch(
        """WITH given AS (SELECT * FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS g (id, backlog, since)
           ), free AS (SELECT id FROM data_connectors WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
           UPDATE data_connectors c SET backlog = g.backlog, owed_since = g.since
             FROM given g JOIN free USING (id) WHERE c.id = g.id RETURNING c.id""",
        *columns(known, 3),
    )
    return {row["id"] for row in rows}


# Jobs --------------------------------------------------------------------------------------------------------


async def jobs(executor: Executor) -> list[tuple[int, str]]:
    """The jobs to be worked on now, with their connectors: of each the oldest drop and the oldest that is none."""
    rows = await executor.fetch(
        """SELECT DISTINCT ON (connector_id, kind = 'drop') id, connector_id FROM connector_jobs
            WHERE state = 'RUNNING' ORDER BY connector_id, kind = 'drop', id"""
    )
    return [(row["id"], row["connector_id"]) for row in rows]


# Committing --------------------------------------------------------------------------------------------------

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

Batch = list[tuple["Connector", Progress]]


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


def columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as the arrays that unnest takes."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
