"""Tells the tail when events were added to the log, so that it need not ask while there are none.

Flushers say so on a channel of Redis once they have committed. Nothing depends on it: while this does not listen (Redis
is away, or a cluster, or the user may not), and when a message is lost, the tail asks by itself.
"""

import asyncio
import contextlib
import logging

from redis.asyncio import Redis as SingleRedis
from redis.asyncio.client import PubSub

from schemas import keys, logs
from schemas.redis import RAISED, Redis

log = logging.getLogger(__name__)

READ_S = 5.0
RETRY_S = 1.0


class News:
    """What was heard on the channel."""

    def __init__(self, redis: Redis | None) -> None:
        self.tells = False
        """Whether it may be waited for: it listens, and nothing was found that should have been told before."""
        self._redis = redis
        self._told = asyncio.Event()

    def __repr__(self) -> str:
        return f"<News tells={self.tells}>"

    def forget(self) -> None:
        """What was told by now is about to be read."""
        self._told.clear()

    async def wait(self, seconds: float) -> bool:
        """Wait until something was told since it was forgotten, at most so long; whether it was."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        return self._told.is_set()

    def missed(self) -> None:
        """Something was found of which nothing was told: a flusher is older than this, or its user may not publish.

        Nothing is waited for until something is told again.
        """
        self.tells = False

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set."""
        if not isinstance(self._redis, SingleRedis):
            return
        while not stop.is_set():
            try:
                await self._listen(self._redis, stop)
            except RAISED as error:
                logs.event(log, logging.DEBUG, "log_news_unheard", cause=repr(error))
                self.tells = False
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), RETRY_S)

    async def _listen(self, redis: SingleRedis, stop: asyncio.Event) -> None:
        async with redis.pubsub() as channel:
            await channel.subscribe(keys.STORED)
            ending = asyncio.create_task(_end(channel, stop))
            try:
                while not stop.is_set():
                    if await channel.get_message(timeout=READ_S) is not None:
                        # The first is that of the subscription: what was told before it may have been missed.
                        self.tells = True
                        self._told.set()
            finally:
                ending.cancel()


async def _end(channel: PubSub, stop: asyncio.Event) -> None:
    """Answer who waits for a message, once `stop` is set."""
    await stop.wait()
    await channel.unsubscribe()
