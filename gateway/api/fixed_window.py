"""Limits by fixed windows: so many calls in so many seconds, counted in Redis, where all edges meet.

With Redis away or full a call passes uncounted: an operator must be able to look at a gateway in trouble, and what a
device reports matters more than how often.
"""

import logging
from typing import Any

from gateway.refusals import TooMany
from gateway.services import Services
from schemas import logs
from schemas.redis import RedisAway

log = logging.getLogger(__name__)

_COUNT = """
local calls = redis.call('INCR', KEYS[1])
if calls == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {calls, redis.call('TTL', KEYS[1])}
"""
_GIVE_BACK = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DECR', KEYS[1]) end"


async def count(services: Services, key: str, *, calls_max: int, window_s: int, window: str) -> None:
    """Count one call under this key. Raises TooMany beyond `calls_max` in the window, which `window` names in words."""
    try:
        counted: Any = await services.redis.eval(_COUNT, 1, key, str(window_s))
    except RedisAway as error:
        logs.event(log, logging.WARNING, "call_uncounted", key=key, cause=str(error))
        return
    calls, left_s = counted
    if calls > calls_max:
        raise TooMany(f"More than {calls_max} calls in {window}", retry_after_s=max(1, left_s))


async def give_back(services: Services, key: str) -> None:
    """Take back a call that was counted under this key."""
    try:
        await services.redis.eval(_GIVE_BACK, 1, key)
    except RedisAway as error:
        logs.event(log, logging.WARNING, "call_not_given_back", key=key, cause=str(error))
