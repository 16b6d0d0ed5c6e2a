"""Tells a whole model of firmware that was released or withdrawn: goes through its devices, some hundred at a time.

    sweep noted ──▶ 500 devices by id: what are they offered now? ──▶ commit, with how far it came ──▶ their replies
                ◀── a rest for others ──┘

Where it stands is in Postgres, so another worker goes on where one died. Each batch takes the oldest sweep that nobody
else works on. Sweeps have the same share of a worker's time as rollouts (`workers.turns`). Replies that others wait for
come first: while the queue of replies is long (Redis was away, say), sweeps wait.
"""

import logging
from typing import Any
from uuid import UUID

from schemas import firmware, logs, replies
from schemas.postgres import Connection, Pool
from schemas.redis import Redis
from workers.turns import Turns

log = logging.getLogger(__name__)

TURN_S = 2.0
"""A sweep is left after so long, to be taken up again: whoever shuts down waits for no more.
Where it rests, a share of that."""
DEVICES_MAX = 500
QUEUED_MAX = 2_000
"""Replies that may wait in the queue while a sweep goes on; a worker writes some thousands a second."""

DUE = "EXISTS (SELECT FROM firmware_sweeps WHERE finished_at IS NULL)"
_TAKE = """
    SELECT s.file_id, s.model_id, s.after_id, s.devices, s.done, f.organization_id
      FROM firmware_sweeps s JOIN files f ON f.id = s.file_id
     WHERE s.finished_at IS NULL ORDER BY s.requested_at LIMIT 1 FOR NO KEY UPDATE OF s SKIP LOCKED
"""
_OF_SWEEP = "deleted_at IS NULL AND model_id = $1 AND ($2::uuid IS NULL OR organization_id = $2)"


class FirmwareSweep:
    """Works on sweeps. Several may run, each on another one."""

    def __init__(self, pool: Pool, redis: Redis, share: float = 1.0) -> None:
        self._pool = pool
        self._redis = redis
        self._turns = Turns(share, TURN_S)

    async def advance(self) -> None:
        """Go on with sweeps for a turn."""
        with self._turns.turn() as goes_on:
            while goes_on() and await self.step():
                pass

    async def step(self, devices_max: int = DEVICES_MAX) -> bool:
        """Look at the next devices of the oldest sweep; False when there is none, or others come first."""
        async with self._pool.acquire() as connection:
            queued = await connection.fetchval(
                "SELECT count(*) FROM (SELECT FROM reply_queue WHERE NOT forget LIMIT $1) AS queued", QUEUED_MAX
            )
            if queued >= QUEUED_MAX:
                return False
            async with connection.transaction():
                sweep = await connection.fetchrow(_TAKE)
                if sweep is None:
                    return False
                changed = await _batch(connection, sweep, devices_max)
            await replies.publish(connection, self._redis, changed)
        return True


async def _batch(connection: Connection, sweep: Any, devices_max: int) -> list[UUID]:
    """The next devices of a sweep, in its transaction; those that are offered something else now."""
    of_sweep = sweep["model_id"], sweep["organization_id"]
    devices = sweep["devices"]
    if devices is None:
        devices = await connection.fetchval(f"SELECT count(*) FROM devices WHERE {_OF_SWEEP}", *of_sweep)
    rows = await connection.fetch(
        f"SELECT id FROM devices WHERE {_OF_SWEEP} AND ($3::uuid IS NULL OR id > $3) ORDER BY id LIMIT $4",
        *of_sweep,
        sweep["after_id"],
        devices_max,
    )
    changed = await firmware.choose(connection, [row["id"] for row in rows])
    is_last = len(rows) < devices_max
    done = sweep["done"] + len(rows)
    await connection.execute(
        """UPDATE firmware_sweeps SET after_id = $2, devices = $3, done = $4,
                  finished_at = CASE WHEN $5 THEN now() END WHERE file_id = $1""",
        sweep["file_id"],
        rows[-1]["id"] if rows else sweep["after_id"],
        max(devices, done),
        done,
        is_last,
    )
    if is_last:
        logs.event(log, logging.INFO, "firmware_sweep_finished", file=str(sweep["file_id"]), devices=done)
    return changed
