"""Loops that repeat a step at an interval until the process stops."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from schemas import logs
from schemas.postgres import PostgresAway
from schemas.redis import RedisAway

log = logging.getLogger(__name__)


async def every(interval_s: float, step: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
    """Take a step at once and then every `interval_s` seconds, until `stop` is set."""
    while not stop.is_set():
        await attempt(step)
        try:
            await asyncio.wait_for(stop.wait(), interval_s)
        except TimeoutError:
            continue


async def attempt(step: Callable[[], Awaitable[object]]) -> None:
    """Take a step. One that fails because Postgres or Redis is away or busy is left for the next time; any other error
    is a bug of ours and ends the process.
    """
    try:
        await step()
    except (RedisAway, PostgresAway) as error:
        name = getattr(step, "__qualname__", repr(step))
        logs.event(log, logging.WARNING, "step_deferred", step=name, cause=repr(error))
