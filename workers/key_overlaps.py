"""Ends the time in which a device's rotated key and the one before are both good.

It ends with the first message that the new key sends, which the flusher sees, or when it is over. From then on the
prepared reply turns the key before away, within a second or so.
"""

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from schemas import logs, replies
from schemas.postgres import Connection, Pool
from schemas.redis import Redis

log = logging.getLogger(__name__)

DEVICES_MAX = 1_000
"""Devices in one transaction."""
LATE = timedelta(seconds=10)
"""So long after its end a key may have been good at some edge, which had not heard of it."""

DUE = "EXISTS (SELECT FROM devices WHERE previous_key_good AND previous_key_until <= now())"
_END = """
    UPDATE devices d SET previous_key_good = false, previous_key_until = least(previous_key_until, now())
      FROM (SELECT id FROM devices WHERE {which} ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) AS free
     WHERE d.id = free.id RETURNING d.id
"""
_OF_THESE = _END.format(which="id = ANY($1::uuid[]) AND previous_key_good")
_OVER = _END.format(
    which="""id IN (SELECT id FROM devices WHERE previous_key_good AND previous_key_until <= coalesce($1, now())
                     ORDER BY previous_key_until LIMIT $2)"""
)


def was_good(device: Any, key_version: int, received_at: datetime) -> bool:
    """Whether a message was sent with the key before the device's own, while that was good.

    Edges add a message to the log while they look up the reply that turns it away, so what is in there proves nothing.
    """
    until = device["previous_key_until"]
    return until is not None and key_version == device["previous_key_version"] and received_at < until + LATE


async def end_for(connection: Connection, device_ids: Collection[str]) -> None:
    """End it for devices that used their new keys. What is locked is left for the next message."""
    await connection.execute(_OF_THESE, list(device_ids))


class KeyOverlaps:
    """Ends those that are over. Several may run: each ends once."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis

    async def end(self, now: datetime | None = None) -> int:
        """End all that are over; returns how many. `now` stands for the database's clock."""
        total = 0
        async with self._pool.acquire() as connection:
            while rows := await connection.fetch(_OVER, now, DEVICES_MAX):
                total += len(rows)
                await replies.publish(connection, self._redis, {row["id"] for row in rows})
        if total:
            logs.event(log, logging.INFO, "key_overlaps_ended", devices=total)
        return total
