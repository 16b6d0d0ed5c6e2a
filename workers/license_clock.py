"""What time does to licences: one in use expires at its end, and its device is told to remove it a turn later.

    inuse ─(expires_at)─► expired ─(the next turn)─► pending_remove

A device stops by itself at that time; this is for whoever looks, and so that the device tidies up. The steps are those
of `schemas.licenses`.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from schemas import logs, outbox, replies
from schemas.licenses import LicenseState, Step
from schemas.life_cycle import LicenseUpdated
from schemas.metrics import Metrics
from schemas.postgres import Connection, Pool
from schemas.redis import Redis

log = logging.getLogger(__name__)

LICENSES_MAX = 1_000
"""Licences in one transaction."""
DUE = """(EXISTS (SELECT FROM licenses WHERE state = 'inuse' AND expires_at <= now())
          OR EXISTS (SELECT FROM licenses WHERE state = 'expired' AND updated_at < now() - interval '5 s'))"""
"""Whoever looks sees that it expired for a while."""

_TAKE = """
    UPDATE licenses SET state = $3, offer = 'new', updated_at = $1
     WHERE id IN (
         SELECT l.id FROM licenses l JOIN devices d ON d.id = l.device_id
          WHERE l.state = $4 AND {due} ORDER BY {order} LIMIT $2
         FOR NO KEY UPDATE OF l, d SKIP LOCKED)
    RETURNING id, device_id, name, state, error, expires_at
"""
_EXPIRE = _TAKE.format(due="l.expires_at <= $1", order="l.expires_at")
_REMOVE = _TAKE.format(due="l.updated_at < $1", order="l.updated_at")


class LicenseClock:
    """Expires licences. Several may run: each licence takes a step once."""

    def __init__(self, pool: Pool, redis: Redis, metrics: Metrics) -> None:
        self._pool = pool
        self._redis = redis
        self._metrics = metrics

    async def advance(self, now: datetime | None = None) -> int:
        """Take all steps that are due, one for each licence; returns how many. `now` stands for the clock."""
        now = now or datetime.now(UTC)
        return await self._all(Step.REVOKE, LicenseState.EXPIRED, _REMOVE, now) + await self._all(
            Step.EXPIRE, LicenseState.INUSE, _EXPIRE, now
        )

    async def _all(self, step: Step, state: LicenseState, statement: str, now: datetime) -> int:
        total = 0
        async with self._pool.acquire() as connection:
            while rows := await self._some(connection, statement, now, state, step.leads[state]):
                total += len(rows)
                if step is Step.EXPIRE:
                    self._metrics.licenses_expired.inc(len(rows))
                    logs.event(log, logging.INFO, "licenses_expired", licenses=len(rows))
                await replies.publish(connection, self._redis, {row["device_id"] for row in rows})
        return total

    async def _some(
        self, connection: Connection, statement: str, now: datetime, was: LicenseState, state: LicenseState
    ) -> Sequence[Any]:
        async with connection.transaction():
            rows: Sequence[Any] = await connection.fetch(statement, now, LICENSES_MAX, state, was)
            await outbox.append(
                connection, [outbox.event(row["device_id"], LicenseUpdated.of_row(row), now) for row in rows]
            )
        return rows
