"""The ingest streams as their flusher sees them: reading, trimming, and making a shard whole again in Redis."""

from collections.abc import Collection, Mapping
from typing import Any

from schemas import keys, replies
from schemas.redis import Redis


async def read(
    redis: Redis, offsets: Mapping[int, str], *, entries_max: int, block_ms: int | None
) -> dict[int, list[Any]]:
    """The entries of each shard behind its offset, at most so many of each; shards without any are left out.

    One call for all shards; on a cluster, where each has a slot of its own, there must be one shard. Without `block_ms`
    it does not wait for any.
    """
    shards = {keys.ingest(shard): shard for shard in offsets}
    found: Any = await redis.xread(
        {stream: offsets[shard] for stream, shard in shards.items()}, count=entries_max, block=block_ms
    )
    if isinstance(found, dict):
        return {shards[stream.decode()]: lists[0] for stream, lists in found.items()}
    return {shards[stream.decode()]: read for stream, read in found or ()}


async def trim(redis: Redis, offsets: Mapping[int, str]) -> None:
    """Drop the entries up to these offsets."""
    pipeline = redis.pipeline(transaction=False)
    for shard, offset in offsets.items():
        milliseconds, number = _parts(offset)
        pipeline.xtrim(keys.ingest(shard), minid=f"{milliseconds}-{number + 1}", approximate=False)
    await pipeline.execute()


async def missing(redis: Redis, shards: Collection[int]) -> list[int]:
    """The shards whose streams are gone."""
    if await redis.exists(*map(keys.ingest, shards)) == len(shards):
        return []
    return [shard for shard in shards if not await redis.exists(keys.ingest(shard))]


async def is_whole(redis: Redis, shard: int, offset: str) -> bool:
    """Whether a shard's replies are complete, and its stream is there and not behind the offset."""
    if not await redis.hexists(keys.reply(shard), replies.COMPLETE.decode()):
        return False
    stream = keys.ingest(shard)
    return bool(await redis.exists(stream)) and await _last_id(redis, stream) >= _parts(offset)


async def repair(redis: Redis, shard: int, offset: str) -> None:
    """Let the stream exist, with ids that go on above the offset; entries that are not stored yet stay."""
    stream = keys.ingest(shard)
    if not await redis.exists(stream):
        await redis.xgroup_create(stream, "opened", mkstream=True)
        await redis.xgroup_destroy(stream, "opened")
    if await _last_id(redis, stream) < _parts(offset):
        await redis.execute_command("XSETID", stream, offset)


async def _last_id(redis: Redis, stream: str) -> tuple[int, int]:
    info: Any = await redis.xinfo_stream(stream)
    return _parts(info["last-generated-id"].decode())


def _parts(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)
