"""What data connectors still owe of a partition of the event log, and how it is counted when that goes all the same.

Events that a connector never came to read are counted in its ledger as accepted and expired, with the times between
which they were stored: they are older than the longest retry window, so that is what they would have become. Its
owner reads anew from its place, or what it has in memory of them would be counted twice. Rows that wait expire by
themselves, when their event is nowhere to be found.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from schemas.postgres import Connection, Executor

COUNT_S = 600.0
"""For one day of a large log."""

_PLACES = """
    SELECT p.connector_id, p.shard, p.seq, c.project_id, array_to_string(c.event_types, ',') AS event_types
      FROM connector_positions p JOIN data_connectors c ON c.id = p.connector_id
     WHERE c.status = 'ACTIVE' AND p.stored_at < $1
"""
_EXPIRE = """
    UPDATE data_connectors c
       SET epoch = c.epoch + 1, accepted = c.accepted + u.events, expired = c.expired + u.events,
           expired_unread = c.expired_unread + u.events, expired_unread_from = least(c.expired_unread_from, u.first),
           expired_unread_until = greatest(c.expired_unread_until, u.last)
      FROM unnest($1::text[], $2::bigint[], $3::timestamptz[], $4::timestamptz[]) AS u (id, events, first, last)
     WHERE c.id = u.id
"""


async def owed(executor: Executor, partition: str, day: datetime) -> dict[str, int]:
    """How many events of a partition each active connector has before it, or waiting."""
    places = await executor.fetch(_PLACES, day + timedelta(days=1))
    counts = {row["connector_id"]: row["events"] for row in await _unread(executor, partition, places)}
    waiting = await executor.fetch(
        """SELECT w.connector_id, count(*) AS events
             FROM waiting_deliveries w JOIN data_connectors c ON c.id = w.connector_id
            WHERE c.status = 'ACTIVE' AND w.body IS NULL AND w.stored_at >= $1 AND w.stored_at < $2 GROUP BY 1""",
        day,
        day + timedelta(days=1),
    )
    for row in waiting:
        counts[row["connector_id"]] = counts.get(row["connector_id"], 0) + row["events"]
    return counts


async def expire(connection: Connection, partition: str, day: datetime, connector_ids: Sequence[str]) -> None:
    """Count what these connectors did not read of a partition, in the transaction that drops it.

    They are held while it is counted, which nobody else waits for: the dispatcher tells of others meanwhile.
    """
    await connection.execute(
        "SELECT FROM data_connectors WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", list(connector_ids)
    )
    if await connection.fetchval("SELECT to_regclass($1)", partition) is None:
        return  # Another worker was faster.
    places = await connection.fetch(f"{_PLACES} AND c.id = ANY($2)", day + timedelta(days=1), list(connector_ids))
    unread = await _unread(connection, partition, places)
    await connection.execute(_EXPIRE, *_columns(unread, "connector_id", "events", "first", "last"))


async def _unread(executor: Executor, partition: str, places: Sequence[Any]) -> list[Any]:
    """Of each connector: how many events of a partition it has not read, and when the first and the last was stored."""
    return await executor.fetch(
        f"""SELECT o.connector_id, count(*)::bigint AS events, min(e.stored_at) AS first, max(e.stored_at) AS last
              FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::uuid[], $5::text[])
                     AS o (connector_id, shard, seq, project_id, event_types)
              JOIN "{partition}" e ON e.project_id = o.project_id AND e.shard = o.shard AND e.seq >= o.seq
                   AND (o.event_types = '' OR e.type = ANY(string_to_array(o.event_types, ',')))
             WHERE e.shard = ANY($2::smallint[]) GROUP BY o.connector_id""",
        *_columns(places, "connector_id", "shard", "seq", "project_id", "event_types"),
        timeout=COUNT_S,
    )


def _columns(rows: Sequence[Any], *names: str) -> list[list[Any]]:
    return [[row[name] for row in rows] for name in names]
