"""The presence of edges: each tells every few seconds, for each shard, that it can take telemetry.

Redis hash ``{shard}:edges``, field = a name that an edge gives itself, value = three numbers, in ms:

    beat     when it last told, by the clock of Redis
    since    since when it does so without a gap; 0 when it began beside others, or as the first of all
    ahead    how far its own clock, which dates messages, is ahead of that of Redis

An edge that cannot take telemetry (it is frozen, cut off, shedding, or its clock jumps) leaves a gap. An edge that ends
takes its field away; the field ``!`` stays, with when the last edge told and since when all had no gap, so that one
which begins at once in the place of another leaves none. Who judges devices by their silence asks
`heard` first, and measures it up to the latest beat that all edges have told: whether one was frozen since is not known
yet. Nothing here depends on the clock of the process that asks.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from redis.asyncio.cluster import RedisCluster

from schemas import keys
from schemas.redis import Redis

BEAT_S = 2.0
LATE_S = 6.0
"""An edge that was silent for longer left a gap. Well below the shortest offline threshold: a shorter freeze is taken
for the silence of devices."""
GONE_S = 300.0
"""An edge that is silent for longer does not come back: devices have found another one, if there is one."""
JUMP_S = 10.0
"""An edge whose clock moved by more against that of Redis dates messages otherwise than before."""

_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
_TELL = (
    _NOW
    + """
local late, gone, jump = ARGV[3] * 1000, ARGV[4] * 1000, ARGV[5] * 1000
for _, edges in ipairs(KEYS) do
    local others, since, latest, ahead = false, 0, 0, ARGV[2] - now
    local all = redis.call('HGETALL', edges)
    for i = 1, #all, 2 do
        if all[i] ~= '!' and all[i] ~= ARGV[1] then
            local beat, began = string.match(all[i + 1], '^(%d+) (%d+)')
            local age = now - beat
            if age <= late then
                others = true
                latest = math.max(latest, began)
            end
            if age > gone then redis.call('HDEL', edges, all[i]) end
        end
    end
    local mine = redis.call('HGET', edges, ARGV[1])
    if mine then
        local beat, began, was = string.match(mine, '^(%d+) (%d+) (-?%d+)$')
        since = began
        if now - beat > late or math.abs(ahead - was) > jump then since = now end
    elseif #all > 0 and not others then
        local beat, began = string.match(redis.call('HGET', edges, '!') or '', '^(%d+) (%d+)$')
        since = beat and now - beat <= late and began or now
    end
    redis.call('HSET', edges, '!', string.format('%.0f %.0f', now, math.max(latest, since)),
               ARGV[1], string.format('%.0f %.0f %.0f', now, since, ahead))
end
return {}
"""
)
_LEAVE = "for _, edges in ipairs(KEYS) do redis.call('HDEL', edges, ARGV[1]) end return {}"
_ASK = (
    _NOW
    + """
local found = {}
for n, edges in ipairs(KEYS) do found[n] = {now, redis.call('HGETALL', edges)} end
return found
"""
)
"""Each is for as many shards as lie on one node: a command for each would cost edges and sweeps more than all else that
they ask Redis for while there is little to do."""


class Heard(NamedTuple):
    """How well devices of a shard can be heard: up to the oldest beat of all edges, since when without a gap, dated by
    which clock. `since_ms`, `ahead_ms` are None where no edge ever told."""

    until_ms: int
    since_ms: int | None
    ahead_ms: int | None


async def tell(redis: Redis, shards: Collection[int], name: str, own_ms: int) -> None:
    """Tell that the edge of this name, whose clock says `own_ms`, takes telemetry of these shards. Raises RedisAway."""
    await _run(redis, _TELL, shards, name, own_ms, LATE_S, GONE_S, JUMP_S)


async def leave(redis: Redis, shards: Collection[int], name: str) -> None:
    """The edge ends. Raises RedisAway."""
    await _run(redis, _LEAVE, shards, name)


async def heard(redis: Redis, shards: Collection[int]) -> dict[int, Heard]:
    """How the devices of these shards can be heard; shards are left out of which they cannot. Raises RedisAway."""
    answers = await _run(redis, _ASK, shards)
    found = {shard: _heard(*answer) for shard, answer in zip(shards, answers, strict=True)}
    return {shard: one for shard, one in found.items() if one is not None}


def _heard(now_ms: int, flat: list[bytes]) -> Heard | None:
    """None where an edge is missing that may come back, or all are gone."""
    if not flat:
        return Heard(now_ms, None, None)
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    edges = [tuple(map(int, value.split())) for name, value in fields.items() if name != b"!"]
    alive = [edge for edge in edges if now_ms - edge[0] <= LATE_S * 1000]
    missing = [edge for edge in edges if LATE_S * 1000 < now_ms - edge[0] <= GONE_S * 1000]
    if missing or not alive:
        return None
    beats, since, ahead = zip(*alive, strict=True)
    return Heard(min(beats), max(since), min(ahead))


async def _run(redis: Redis, script: str, shards: Collection[int], *words: Any) -> list[Any]:
    """Run a script for all shards, or for each where they are on a cluster; what it returned for each."""
    if isinstance(redis, RedisCluster):
        return [one for shard in shards for one in await redis.eval(script, 1, keys.edges(shard), *words)]
    return list(await redis.eval(script, len(shards), *map(keys.edges, shards), *words)) if shards else []
