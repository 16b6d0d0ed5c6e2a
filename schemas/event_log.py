"""How far the log of each shard is: what all who follow it begin with."""

from collections.abc import Iterable

from schemas.postgres import Executor


async def shards(executor: Executor) -> list[int]:
    """All shards of this installation."""
    return list(range(await executor.fetchval("SELECT shards FROM installation")))


async def heads(executor: Executor, shards: Iterable[int]) -> dict[int, int]:
    """For each of these shards the sequence number that its next event will have."""
    rows = await executor.fetch("SELECT shard, next_seq FROM shards WHERE shard = ANY($1::smallint[])", list(shards))
    return {row["shard"]: row["next_seq"] for row in rows}
