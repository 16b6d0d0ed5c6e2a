"""The ingest streams as their flusher sees them: reading, trimming, and making a shard whole again in Redis."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from redis.asyncio.cluster import RedisCluster

from schemas import entries, keys, replies
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


class Progress(NamedTuple):
    """How far a shard is stored, as its flusher notes it in Redis: `trimmed` up to which entry the stream was trimmed,
    `kept` how many entries behind that are stored too."""

    offset: str
    next_seq: int
    trimmed: str
    kept: int


async def settle(redis: Redis, progress: Mapping[int, Progress]) -> None:
    """Note how far these shards are stored, drop the entries up to `trimmed`, and tell who follows the log."""
    names: list[str] = []
    values: list[Any] = ["" if isinstance(redis, RedisCluster) else keys.STORED]
    for shard, note in progress.items():
        milliseconds, number = _parts(note.trimmed)
        names += keys.progress(shard), keys.ingest(shard)
        values += *note, f"{milliseconds}-{number + 1}"
    await redis.eval(_SETTLE, len(names), *names, *values)


_SETTLE = """
    for n = 1, #KEYS / 2 do
        local offset, next_seq, trimmed, kept, first = unpack(ARGV, 5 * n - 3, 5 * n + 1)
        redis.call('XTRIM', KEYS[2 * n], 'MINID', '=', first)
        redis.call('HSET', KEYS[2 * n - 1], 'offset', offset, 'next_seq', next_seq, 'trimmed', trimmed, 'kept', kept)
    end
    if ARGV[1] ~= '' then redis.pcall('PUBLISH', ARGV[1], '') end
"""
"""One command for all shards: clients spend more on each than Redis does. It trims first, which a full Redis allows,
and then the rest of the script too. A user who may not publish may do the rest."""


async def progress(redis: Redis, shard: int) -> Progress | None:
    """What the shard's last flusher noted."""
    noted: Any = await redis.hmget(keys.progress(shard), Progress._fields)
    offset, next_seq, trimmed, kept = noted
    return Progress(offset.decode(), int(next_seq), trimmed.decode(), int(kept)) if offset else None


def is_before(entry_id: str, other_id: str) -> bool:
    """Whether one entry was added before another."""
    return _parts(entry_id) < _parts(other_id)


async def gone(redis: Redis, offsets: Mapping[int, str]) -> list[int]:
    """The shards whose streams are gone, or behind these offsets."""
    last_ids: Any = await redis.eval(_LAST_IDS, len(offsets), *map(keys.ingest, offsets))
    return [
        shard
        for (shard, offset), last_id in zip(offsets.items(), last_ids, strict=True)
        if not last_id or _parts(last_id.decode()) < _parts(offset)
    ]


_LAST_IDS = """
    local last_ids = {}
    for n, stream in ipairs(KEYS) do
        last_ids[n] = ''
        if redis.call('EXISTS', stream) == 1 then
            local info = redis.call('XINFO', 'STREAM', stream)
            for at = 1, #info, 2 do
                if info[at] == 'last-generated-id' then last_ids[n] = info[at + 1] end
            end
        end
    end
    return last_ids
"""


async def is_whole(redis: Redis, shard: int, offset: str, generation: int) -> bool:
    """Whether a shard's replies are complete, and its stream is there and not behind the offset."""
    return await replies.is_complete(redis, shard, generation) and not await gone(redis, {shard: offset})


async def repair(redis: Redis, shard: int, offset: str, stored: bytes, *, server: bytes = b"", make: bool) -> int:
    """Let the ids of a stream go on above the offset, and its entries that were not stored lie there.

    A server that takes over without the last entries of the one before, or with a clock behind the other's, gives the
    next entries ids up to the offset, where nobody reads. Those are the ones that name the `server` (if not given, the
    one that is asked) behind the last that name the server whose entry was `stored` last: they are added anew.
    Returns how many they were. A stream that is not there is made if `make` is set.
    """
    stream = keys.ingest(shard)
    server = server or await _server(redis, stream)
    return int(await redis.eval(_REPAIR, 1, stream, offset, stored, server, "make" if make else ""))


_REPAIR = """
    local function parts(id)
        local milliseconds, number = string.match(id, '^(%d+)-?(%d*)$')
        return tonumber(milliseconds), tonumber(number) or 0
    end
    local stream, offset, stored, server, make = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
    local below, from = {}, '-'
    repeat
        local page = redis.call('XRANGE', stream, from, offset, 'COUNT', 1000)
        for _, entry in ipairs(page) do
            local named = string.sub(entry[2][2], -#server)
            if named == stored then below = {} elseif named == server then below[#below + 1] = entry end
            from = '(' .. entry[1]
        end
    until #page < 1000
    if redis.call('EXISTS', stream) == 0 then
        if make == '' then return 0 end
        redis.call('XGROUP', 'CREATE', stream, 'opened', '$', 'MKSTREAM')
        redis.call('XGROUP', 'DESTROY', stream, 'opened')
    end
    local info, last = redis.call('XINFO', 'STREAM', stream), nil
    for n = 1, #info, 2 do
        if info[n] == 'last-generated-id' then last = info[n + 1] end
    end
    local last_ms, last_number = parts(last)
    local offset_ms, offset_number = parts(offset)
    if last_ms < offset_ms or (last_ms == offset_ms and last_number < offset_number) then
        redis.call('XSETID', stream, offset)
    end
    for _, entry in ipairs(below) do
        redis.call('XADD', stream, '*', entry[2][1], entry[2][2])
        redis.call('XDEL', stream, entry[1])
    end
    return #below
"""
"""One script, so that no edge adds anything in between, and a worker that is killed leaves nothing half done."""


async def _server(redis: Redis, stream: str) -> bytes:
    node = {"target_nodes": redis.get_node_from_key(stream)} if isinstance(redis, RedisCluster) else {}
    info: Any = await redis.info("server", **node)
    return entries.server_of(info["run_id"])


def _parts(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)
