"""Writes the prepared replies that whoever made a change could not write (it died, or Redis was away), and drops those
of deleted devices when their time is over.
"""

from datetime import datetime

from schemas import replies
from schemas.postgres import Pool
from schemas.redis import Redis

DEVICES_MAX = 1_000
AGE_S = 1
"""Younger rows are left to whoever made the change: it is about to write them itself."""
DUE = f"EXISTS (SELECT FROM reply_queue WHERE queued_at < now() - interval '{AGE_S} s')"


class ReplyRefresher:
    """Drains `reply_queue`. Several may run: an older reply never overwrites a newer one."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis

    async def drain(self) -> None:
        """Write all replies that are due."""
        while await self.refresh():
            pass

    async def refresh(self, now: datetime | None = None) -> int:
        """Write the oldest replies that are due; returns how many. `now` stands for the database's clock."""
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(
                """SELECT device_id, forget FROM reply_queue
                    WHERE queued_at < coalesce($1, now()) - make_interval(secs => $2) ORDER BY queued_at LIMIT $3""",
                now,
                AGE_S,
                DEVICES_MAX,
            )
            for forget, act in ((False, replies.write), (True, replies.forget)):
                if device_ids := [row["device_id"] for row in rows if row["forget"] == forget]:
                    await act(connection, self._redis, device_ids)
        return len(rows)
