"""The SQL of connectors: who is to be served, from which place, and what others put into their queues.

Rows of connectors are locked in the order of their ids, by all. Events are read by `reading`, progress is written by
`progress_store`.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from schemas.postgres import Connection, Executor


def moment(seconds: float) -> datetime:
    """The time so many seconds after 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as the arrays that unnest takes."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


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
    """(connector_id, shard, seq, stored_at) of each, those that are far first."""
    return await executor.fetch(
        """SELECT connector_id, shard, seq, stored_at FROM connector_positions
            WHERE connector_id = ANY($1) ORDER BY seq DESC""",
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
