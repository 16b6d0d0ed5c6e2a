"""Limits by fixed windows: so many calls in so many seconds, counted in Redis, where all edges meet.

    what            who                             counted
    puts            a device                        its PUT calls
    claims          an organization, an address     its wrong claims (see `gateway.api.claim_limit`)
    sign-ins        an account, an address          its wrong passwords (see `gateway.people.passwords`)
    challenges      an address                      its challenges for passkeys (see `gateway.people.challenges`)
    registrations   a hardware key, an address      devices registered with it, or from it
    mails           an organization                 invitations that are sent by email (see `gateway.people.mail`)

With Redis away or full a call passes uncounted: an operator must be able to look at a gateway in trouble, and what a
device reports matters more than how often. A counter ends with its window, so Redis keeps nothing of who went away.
"""

import logging
from typing import Any

from gateway.refusals import TooMany
from gateway.services import Services
from schemas import keys, logs
from schemas.redis import RedisAway

log = logging.getLogger(__name__)

_COUNT = """
local calls = redis.call('INCRBY', KEYS[1], ARGV[2])
if calls == tonumber(ARGV[2]) then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {calls, redis.call('TTL', KEYS[1])}
"""
_LOOK = "return {tonumber(redis.call('GET', KEYS[1]) or 0), redis.call('TTL', KEYS[1])}"
_GIVE_BACK = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DECR', KEYS[1]) end"


async def count(services: Services, key: str, *, calls_max: int, window_s: int, window: str, calls: int = 1) -> None:
    """Count calls under this key. Raises TooMany beyond `calls_max` in the window, which `window` names in words."""
    counted = await _ask(services, _COUNT, key, str(window_s), str(calls))
    if counted is not None and counted[0] > calls_max:
        raise _too_many(services, key, calls_max, counted[1], window)


async def add(services: Services, key: str, *, window_s: int, calls: int) -> None:
    """Count calls under this key, whatever their limit: for those that `look` first."""
    await _ask(services, _COUNT, key, str(window_s), str(calls))


async def look(services: Services, key: str, *, calls_max: int, window: str) -> None:
    """Count nothing. Raises TooMany when `calls_max` are counted already."""
    counted = await _ask(services, _LOOK, key)
    if counted is not None and counted[0] >= calls_max:
        raise _too_many(services, key, calls_max, counted[1], window)


async def give_back(services: Services, key: str) -> None:
    """Take back a call that was counted under this key."""
    try:
        await services.redis.eval(_GIVE_BACK, 1, key)
    except RedisAway as error:
        logs.event(log, logging.WARNING, "call_not_given_back", key=key, cause=str(error))


async def _ask(services: Services, script: str, key: str, *words: str) -> tuple[int, int] | None:
    """What is counted under a key, and the seconds that are left of its window; None with Redis away."""
    try:
        found: Any = await services.redis.eval(script, 1, key, *words)
    except RedisAway as error:
        logs.event(log, logging.WARNING, "call_uncounted", key=key, cause=str(error))
        return None
    return found[0], found[1]


def _too_many(services: Services, key: str, calls_max: int, left_s: int, window: str) -> TooMany:
    what = keys.what_of_caller(key)
    services.metrics.limited.labels(what).inc()
    return TooMany(f"More than {calls_max} {_OF.get(what, 'calls')} in {window}", retry_after_s=max(1, left_s))


_OF = {
    "claims": "wrong claims",
    "registrations": "registrations",
    "sign-ins": "attempts to sign in that failed",
    "mails": "invitations by email",
}
