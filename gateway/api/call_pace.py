"""A limit that slows callers down before it refuses them: so many calls at once, from then on at an even pace.

Programs ask for one device after the other, as fast as they are answered. With a limit that only refuses, those that do
not know of 429 end there, and the others sleep for seconds. So a call beyond the burst waits its turn, and is refused
only when the turn is more than `WAIT_S_MAX` away; a caller that has one call under way at a time never sees that.

The turns of a caller are one number in Redis, where all edges meet: the time of the next free one (the generic cell
rate algorithm). A turn is taken when a call begins to wait, so no more wait than there are turns in `WAIT_S_MAX`. With
Redis away or full a call passes uncounted: an operator must be able to look at a gateway in trouble.
"""

import asyncio
import logging
import math
from typing import Any

from gateway.refusals import TooMany
from gateway.services import Services
from schemas import keys, logs
from schemas.redis import RedisAway

log = logging.getLogger(__name__)

WAIT_S_MAX = 1.0
"""Clients time out after three seconds, the quickest of them."""

# Microseconds throughout: between two turns, of the burst, and the longest wait. Returns the wait; no turn is taken
# where that is too long.
_TAKE_TURN = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local free = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0)) + ARGV[1]
local wait = math.max(0, free - ARGV[2] - now)
if wait <= tonumber(ARGV[3]) then
    redis.call('SET', KEYS[1], string.format('%.0f', free), 'PX', math.ceil((free - now) / 1000))
end
return math.ceil(wait)
"""


async def take_turn(services: Services, key: str, *, calls_max: int, window_s: int) -> None:
    """Wait until one more call may be made under this key. Raises TooMany when that would take too long.

    Of `calls_max` in `window_s`: so many may come at once, and so many in every window after it.
    """
    step = window_s * 1_000_000 // calls_max
    words = (str(step), str(step * calls_max), str(int(WAIT_S_MAX * 1_000_000)))
    try:
        wait: Any = await services.redis.eval(_TAKE_TURN, 1, key, *words)
    except RedisAway as error:
        logs.event(log, logging.WARNING, "call_uncounted", key=key, cause=str(error))
        return
    wait_s = wait / 1_000_000
    if wait_s > WAIT_S_MAX:
        services.metrics.limited.labels(keys.what_of_caller(key)).inc()
        raise TooMany(
            f"More than {calls_max} calls in {window_s} seconds", retry_after_s=max(1, math.ceil(wait_s - WAIT_S_MAX))
        )
    if wait_s:
        await asyncio.sleep(wait_s)
