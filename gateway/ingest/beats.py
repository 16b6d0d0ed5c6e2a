"""Tells the offline sweep which shards this edge takes telemetry of, so that no outage of ours counts as silence."""

import asyncio
import contextlib
import logging
import time
from uuid import uuid4

from gateway.ingest.ingest import Ingest
from schemas import logs, presence
from schemas.redis import Redis, RedisAway

log = logging.getLogger(__name__)


class Beats:
    """Tells every few seconds, see `schemas.presence`."""

    def __init__(self, redis: Redis, ingest: Ingest, shards: int) -> None:
        self._redis = redis
        self._ingest = ingest
        self._shards = shards
        self._name = uuid4().hex

    def __repr__(self) -> str:
        return f"<Beats of {self._name}>"

    async def run(self) -> None:
        """Tell until cancelled; then take the name away, if Redis is there."""
        try:
            while True:
                try:
                    await self.tell()
                except RedisAway as error:
                    logs.event(log, logging.DEBUG, "presence_untold", cause=str(error))
                await asyncio.sleep(presence.BEAT_S)
        finally:
            with contextlib.suppress(RedisAway):
                await presence.leave(self._redis, range(self._shards), self._name)

    async def tell(self) -> None:
        """Tell of the shards that are taken at the moment. Raises RedisAway."""
        taken = [
            shard
            for shard in range(self._shards)
            if self._ingest.shed[shard] is None and self._ingest.is_connected(shard)
        ]
        await presence.tell(self._redis, taken, self._name, time.time_ns() // 1_000_000)
