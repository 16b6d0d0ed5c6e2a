"""Notices that Postgres is another than before, or at an earlier point.

It was restored from a backup, say, or succeeded by a standby that lacked the last commits. What was read from it and
kept elsewhere is then wrong, though each part looks right by itself: prepared replies in Redis are newer than their
devices, the dispatcher's connectors are those of tomorrow. Each such turn begins a new generation; whoever keeps
something compares the generation and reads anew.

What it compares is the database's identity (system identifier and timeline) and a heartbeat, which grows there with
every look. A planned switch-over begins a new timeline too: nothing is lost then, and reading anew costs little. What
is known lies in Redis, so that a worker that starts later notices as well.

What is not noticed: a copy on the same timeline that lacks less than the time between two looks, and no event. Whoever
starts one counts `installation.generation` up by hand.
"""

import logging
from typing import Any, NamedTuple

from schemas import keys, logs
from schemas.metrics import Metrics
from schemas.postgres import Pool
from schemas.redis import Redis

log = logging.getLogger(__name__)

INTERVAL_S = 1.0

_ADVANCE = """
    if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return 0 end
    local known = tonumber(redis.call('HGET', KEYS[1], 'heartbeat'))
    if ARGV[2] == ARGV[1] and known > tonumber(ARGV[4]) then return 0 end
    redis.call('HSET', KEYS[1], 'generation', ARGV[2], 'identity', ARGV[3], 'heartbeat', ARGV[4])
    return 1
"""
"""Note the heartbeat, if the generation is still the one that was read; within one it only grows."""


class _Seen(NamedTuple):
    """Which database it was, and its heartbeat."""

    generation: int
    identity: str
    heartbeat: int


class PostgresHistory:
    """What this process knows of the database. `look` is called once in `INTERVAL_S`."""

    def __init__(self, pool: Pool, redis: Redis, metrics: Metrics) -> None:
        self.generation = 0
        """How often it went back or became another; those who keep what they read from it compare this."""
        self._pool = pool
        self._redis = redis
        self._metrics = metrics
        self._last: _Seen | None = None

    def __repr__(self) -> str:
        return f"<PostgresHistory generation={self.generation} last={self._last}>"

    async def look(self) -> None:
        """Compare what Postgres is with what it was; raises PostgresAway or RedisAway."""
        # In this order: what was noted by now is less than the next heartbeat.
        known = await self._known()
        now = await self._now()
        if known is None:
            known = self._last or now._replace(heartbeat=now.heartbeat - 1)
            fields: dict[Any, Any] = known._asdict()
            await self._redis.hset(keys.POSTGRES, mapping=fields)
        went_back = now.identity != known.identity or now.heartbeat <= known.heartbeat
        generation = max(known.generation, now.generation)
        if went_back:
            generation += 1
        noted = await self._redis.eval(
            _ADVANCE, 1, keys.POSTGRES, known.generation, generation, now.identity, now.heartbeat
        )
        if went_back:
            if not noted:
                return  # Another worker noticed at the same time: its generation is found at the next look.
            self._metrics.postgres_went_back.inc()
            logs.event(log, logging.ERROR, "postgres_went_back", known=repr(known), now=repr(now))
        if now.generation < generation:
            await self._pool.execute("UPDATE installation SET generation = $1 WHERE generation < $1", generation)
        self._last = now._replace(generation=generation)
        self.generation = generation

    async def _known(self) -> _Seen | None:
        noted: Any = await self._redis.hmget(keys.POSTGRES, list(_Seen._fields))
        generation, identity, heartbeat = noted
        return _Seen(int(generation), identity.decode(), int(heartbeat)) if generation else None

    async def _now(self) -> _Seen:
        row = await self._pool.fetchrow(
            """UPDATE installation SET heartbeat = heartbeat + 1
               RETURNING generation, heartbeat, (SELECT system_identifier FROM pg_control_system()) || '/'
                         || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS identity"""
        )
        assert row is not None
        return _Seen(row["generation"], row["identity"], row["heartbeat"])
