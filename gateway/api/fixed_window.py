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
