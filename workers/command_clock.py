"""What time does to commands: makes scheduled ones pending, fails those that took too long or were never fetched.

scheduled ─(its time)─► pending ─(7 days, never fetched)─► failed
                        pending, in_progress ─(its timeout after the first delivery)─► failed

When each is due is a column that a trigger keeps (`due_at`): what is read follows what is due, not the table.
"""

import logging
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from schemas import logs, outbox, replies
from schemas.life_cycle import CommandUpdated
from schemas.metrics import Metrics
from schemas.postgres import Connection, Pool
from schemas.redis import Redis

log = logging.getLogger(__name__)

COMMANDS_MAX = 1_000
"""Commands in one transaction."""
DUE = "EXISTS (SELECT FROM commands WHERE due_at <= now())"


class CommandClock:
    """Advances commands. Several may run: each command changes once."""

    def __init__(self, pool: Pool, redis: Redis, metrics: Metrics) -> None:
        self._pool = pool
        self._redis = redis
        self._metrics = metrics

    async def advance(self, now: datetime | None = None) -> int:
        """Make all changes that are due; returns how many. `now` stands for the clock."""
        now = now or datetime.now(UTC)
        total = 0
        async with self._pool.acquire() as connection:
            while changed := await self._change(connection, now):
                total += len(changed)
                for cause, count in Counter(map(_cause, changed)).items():
                    if cause != "due":
                        self._metrics.commands_ended.labels(cause).inc(count)
                    logs.event(log, logging.INFO, "commands_advanced", cause=cause, commands=count)
                await replies.publish(connection, self._redis, {row["device_id"] for row in changed})
        return total

    async def _change(self, connection: Connection, now: datetime) -> list[Any]:
        async with connection.transaction():
            rows: list[Any] = await connection.fetch(
                """UPDATE commands
                      SET status = CASE status WHEN 'scheduled' THEN 'pending' ELSE 'failed' END,
                          message = CASE WHEN status = 'scheduled' THEN message
                                         WHEN delivered_at IS NULL THEN 'Expired: the device never fetched it'
                                         ELSE 'Timed out after ' || timeout_s || ' s' END,
                          finished_at = CASE WHEN status <> 'scheduled' THEN $1 END
                    WHERE id IN (
                        SELECT c.id FROM commands c JOIN devices d ON d.id = c.device_id
                         WHERE c.due_at <= $1 ORDER BY c.due_at LIMIT $2
                        FOR NO KEY UPDATE OF c, d SKIP LOCKED)
                    RETURNING id, device_id, name, status, message, delivered_at""",
                now,
                COMMANDS_MAX,
            )
            await outbox.append(
                connection, [outbox.event(row["device_id"], CommandUpdated.of_row(row), now) for row in rows]
            )
        return rows


def _cause(row: Any) -> str:
    if row["status"] == "pending":
        return "due"
    return "expired" if row["delivered_at"] is None else "timed_out"
