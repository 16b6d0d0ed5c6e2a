"""The log as it grows: what was stored since a place in each shard.

A shard's sequence has no gaps and grows with the transaction that stores its events, so whoever reads up to the next
number and goes on from there misses nothing, and reads nothing twice.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from schemas.placement import read_reachable
from schemas.postgres import Executor


class Span(NamedTuple):
    """The events of a shard from `low` to before `high`."""

    shard: int
    low: int
    high: int


async def read(
    connection: Executor, spans: Sequence[Span], project_ids: Collection[Any], since: datetime
) -> list[asyncpg.Record]:
    """The events of these projects in these spans, in order; none of them was stored before `since`."""
    return await connection.fetch(
        """SELECT e.shard, e.seq, e.stored_at, e.type, e.device_id, e.project_id, e.ts, e.data::text AS data,
                  e.labels::text AS labels
             FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS s (shard, low, high)
            CROSS JOIN unnest($4::uuid[]) AS p (id)
            CROSS JOIN LATERAL (
                  SELECT * FROM events WHERE project_id = p.id AND shard = s.shard AND seq >= s.low AND seq < s.high
                     AND shard = ANY($1) AND stored_at >= $5) e
            ORDER BY e.shard, e.seq""",
        [span.shard for span in spans],
        [span.low for span in spans],
        [span.high for span in spans],
        list(project_ids),
        since,
    )


RECENT_MAX = 50_000
"""Messages that are counted at most."""


async def recent(connection: Executor, shards: Collection[int], project_ids: Collection[Any], since: datetime) -> int:
    """How many messages of these projects were stored since then: up to `RECENT_MAX`, which stands for more.

    What lies on a node that is away is not counted.
    """

    async def count(of_node: list[int]) -> int:
        found: int = await connection.fetchval(
            """SELECT count(*) FROM (
                   SELECT 1 FROM events WHERE project_id = ANY($2::uuid[]) AND shard = ANY($1::smallint[])
                      AND ts >= $3 AND stored_at >= $3 AND type = 'telemetry' LIMIT $4) recent""",
            of_node,
            list(project_ids),
            since,
            RECENT_MAX,
        )
        return found

    found = await read_reachable(connection, shards, count)
    return min(RECENT_MAX, sum(found.results))
