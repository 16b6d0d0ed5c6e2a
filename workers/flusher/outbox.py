"""Which shards have events that others handed over through `event_outbox`."""

from collections.abc import Collection

from schemas.postgres import Executor

LOOK_S = 0.2
"""How soon such an event reaches the log."""


async def waiting(executor: Executor, shards: Collection[int]) -> set[int]:
    """Those of these shards that have some."""
    rows = await executor.fetch(
        """SELECT shard FROM unnest($1::smallint[]) AS flushed (shard)
            WHERE EXISTS (SELECT FROM event_outbox o WHERE o.shard = flushed.shard)""",
        list(shards),
    )
    return {row["shard"] for row in rows}
