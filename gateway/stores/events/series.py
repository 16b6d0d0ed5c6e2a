"""Values of a device over time, as charts draw them: so many buckets, each with least, greatest and mean.

The buckets are made where the messages lie, in Postgres or from files of moved days (`archived_series`). One that
holds a single message stands at its time, so a short range is the messages themselves; buckets without any are gaps.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct

from gateway.stores.events.buckets import Bucket, together
from gateway.stores.events.tiers import Tiers, Wanted
from schemas.events import EventType
from schemas.times import EPOCH

POINTS_MAX = 1_000
NOT_NUL = r"replace(e.data::text, '\u0000', '\ufffd')::json"


# Times are integers, so that the buckets of both tiers are the same ones.
_BUCKETS = f"""
    SELECT k.key, m.behind_us * $6::int / (extract(epoch FROM $5::timestamptz - $4) * 1000000)::bigint, count(*),
           sum(m.behind_us)::bigint, min(v.number), sum(v.number), max(v.number)
      FROM events e
     CROSS JOIN LATERAL (SELECT (extract(epoch FROM e.ts - $4) * 1000000)::bigint AS behind_us,
                                {NOT_NUL} -> 'telemetry' -> 'telemetries' AS told) m
     CROSS JOIN unnest($3::text[]) AS k (key)
     CROSS JOIN LATERAL (SELECT CASE json_typeof(m.told -> k.key)
                                WHEN 'number' THEN (m.told ->> k.key)::float8
                                WHEN 'boolean' THEN (m.told ->> k.key)::boolean::int::float8 END AS number) v
     WHERE e.shard = $1 AND e.device_id = $2 AND e.ts >= $4 AND e.ts < $5 AND e.stored_at >= $4
       AND e.type = 'telemetry' AND e.project_id = ANY($7::uuid[]) AND v.number IS NOT NULL
     GROUP BY 1, 2
"""


class Series(Struct):
    """One value over time. `at` is in milliseconds since 1970: the mean time of the messages of each bucket."""

    key: str
    at: list[int]
    least: list[float]
    mean: list[float]
    greatest: list[float]


async def read(
    tiers: Tiers,
    shard: int,
    device_id: UUID,
    project_ids: Sequence[UUID],
    keys: Sequence[str],
    *,
    since: datetime,
    until: datetime,
    points: int,
) -> list[Series]:
    """The numbers that a device reported under these keys in `[since, until)`, while it was in one of these projects.

    Truth counts as 1, untruth as 0; texts are left out.
    """
    async with tiers.reading() as connection:
        rows = await connection.fetch(_BUCKETS, shard, device_id, list(keys), since, until, points, list(project_ids))
        moved = await tiers.moved(
            connection, [shard], since, until, project_ids=list(project_ids), device_ids=[device_id]
        )
        parts = [Bucket(*row) for row in rows]
        if moved:
            files = tiers.files
            from gateway.stores.events import archived_series

            wanted = Wanted(since=since, until=until, device_ids=[device_id], types=[EventType.TELEMETRY])
            parts += await archived_series.buckets(files, moved, wanted, keys, points)
    begin_us = (since - EPOCH) // timedelta(microseconds=1)
    found = {key: Series(key, [], [], [], []) for key in keys}
    for of_bucket in together(parts):
        series, count = found[of_bucket.key], of_bucket.values
        series.at.append(round((begin_us + of_bucket.times_us / count) / 1000))
        series.least.append(of_bucket.least)
        series.mean.append(of_bucket.total / count)
        series.greatest.append(of_bucket.greatest)
    return list(found.values())
