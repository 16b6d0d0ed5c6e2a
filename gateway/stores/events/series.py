"""Values of a device over time, as charts draw them: so many buckets, each with least, greatest and mean.

The buckets are made where the messages lie. One that holds a single message stands at its time, so a short range is
the messages themselves; buckets without any are gaps.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from schemas.postgres import Executor

POINTS_MAX = 1_000
NOT_NUL = r"replace(e.data::text, '\u0000', '\ufffd')::json"


class Series(Struct):
    """One value over time. `at` is in milliseconds since 1970: the mean time of the messages of each bucket."""

    key: str
    at: list[int]
    least: list[float]
    mean: list[float]
    greatest: list[float]


async def read(
    connection: Executor,
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
    rows = await connection.fetch(
        f"""SELECT k.key, (avg(extract(epoch FROM e.ts)) * 1000)::bigint AS at,
                   min(v.number) AS least, avg(v.number) AS mean, max(v.number) AS greatest
              FROM events e
             CROSS JOIN LATERAL (SELECT {NOT_NUL} -> 'telemetry' -> 'telemetries' AS told) t
             CROSS JOIN unnest($3::text[]) AS k (key)
             CROSS JOIN LATERAL (SELECT CASE json_typeof(t.told -> k.key)
                                        WHEN 'number' THEN (t.told ->> k.key)::float8
                                        WHEN 'boolean' THEN (t.told ->> k.key)::boolean::int::float8 END AS number) v
             WHERE e.shard = $1 AND e.device_id = $2 AND e.ts >= $4 AND e.ts < $5 AND e.stored_at >= $4
               AND e.type = 'telemetry' AND e.project_id = ANY($7::uuid[]) AND v.number IS NOT NULL
             GROUP BY k.key, floor(extract(epoch FROM e.ts - $4) / (extract(epoch FROM $5::timestamptz - $4) / $6::int))
             ORDER BY k.key, at""",
        shard,
        device_id,
        list(keys),
        since,
        until,
        points,
        list(project_ids),
    )
    found = {key: Series(key, [], [], [], []) for key in keys}
    for key, at, least, mean, greatest in rows:
        series = found[key]
        series.at.append(at)
        series.least.append(least)
        series.mean.append(mean)
        series.greatest.append(greatest)
    return list(found.values())
