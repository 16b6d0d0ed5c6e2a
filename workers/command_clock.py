"""What time does to commands: makes scheduled ones pending, fails those that took too long or were never fetched.

scheduled ─(its time)─► pending ─(7 days, never fetched)─► failed
                        pending, in_progress ─(its timeout after the first delivery)─► failed
"""

import logging
from datetime import UTC, datetime
from typing import Any

from schemas import logs, outbox, replies
from schemas.life_cycle import CommandUpdated
from schemas.metrics import Metrics
from schemas.postgres import Connection, Pool
from schemas.redis import Redis

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
COMMANDS_MAX = 1_000
"""Commands in one transaction."""

_CHANGES = (
    (
        "due",
        "SET status = 'pending'",
        "c.status = 'scheduled' AND c.scheduled_at <= $1",
    ),
    (
        "timed_out",
        "SET status = 'failed', message = 'Timed out after ' || timeout_s || ' s', finished_at = $1",
        "c.status IN ('pending', 'in_progress') AND c.delivered_at + make_interval(secs => c.timeout_s) <= $1",
    ),
    (
        "expired",
        "SET status = 'failed', message = 'Expired: the device never fetched it', finished_at = $1",
        "c.status = 'pending' AND c.delivered_at IS NULL AND c.expires_at <= $1",
    ),
)


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
            for cause, change, condition in _CHANGES:
                while changed := await self._change(connection, change, condition, now):
                    total += len(changed)
                    if cause != "due":
                        self._metrics.commands_ended.labels(cause).inc(len(changed))
                    logs.event(log, logging.INFO, "commands_advanced", cause=cause, commands=len(changed))
                    await replies.publish(connection, self._redis, {row["device_id"] for row in changed})
        return total

    async def _change(self, connection: Connection, change: str, condition: str, now: datetime) -> list[Any]:
        async with connection.transaction():
            rows: list[Any] = await connection.fetch(
                f"""UPDATE commands {change} WHERE id IN (
                        SELECT c.id FROM commands c JOIN devices d ON d.id = c.device_id
                         WHERE {condition} ORDER BY c.number LIMIT {COMMANDS_MAX}
                        FOR NO KEY UPDATE OF c, d SKIP LOCKED)
                    RETURNING id, device_id, name, status, message""",
                now,
            )
            await outbox.append(
                connection, [outbox.event(row["device_id"], CommandUpdated.of_row(row), now) for row in rows]
            )
        return rows
