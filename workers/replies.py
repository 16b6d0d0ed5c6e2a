"""Repeats the reply writes of those who changed something and died, or found Redis away, before telling the device."""

import asyncio
import logging
from datetime import datetime

from schemas import logs, replies
from schemas.postgres import AWAY, Pool
from schemas.redis import Redis, RedisError

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
DEVICES_MAX = 1_000
AGE_S = 1
"""Younger rows are left to whoever made the change: it is about to write them itself."""


class ReplyRefresher:
    """Drains `reply_queue`. Several may run: an older reply never overwrites a newer one."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis

    async def run(self, stop: asyncio.Event) -> None:
        """Refresh every second until `stop` is set; stores that are away are tried again."""
        while not stop.is_set():
            try:
                while await self.refresh():
                    pass
            except (RedisError, *AWAY) as error:
                logs.event(log, logging.WARNING, "replies_deferred", cause=repr(error))
            try:
                await asyncio.wait_for(stop.wait(), INTERVAL_S)
            except TimeoutError:
                continue

    async def refresh(self, now: datetime | None = None) -> int:
        """Write the oldest replies that are due; returns how many. `now` stands for the database's clock."""
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(
                """SELECT device_id FROM reply_queue
                    WHERE queued_at < coalesce($1, now()) - make_interval(secs => $2) ORDER BY queued_at LIMIT $3""",
                now,
                AGE_S,
                DEVICES_MAX,
            )
            if rows:
                await replies.write(connection, self._redis, [row["device_id"] for row in rows])
        return len(rows)
