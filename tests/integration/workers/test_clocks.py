"""Devices whose clock is wrong: their history shows it, their state goes on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flushing import drain, flushers
from owners import Owner

from schemas import entries, keys
from schemas.events import rfc3339
from schemas.redis import Redis

T0 = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
"""When the device was registered."""


class Clocked:
    """A device whose messages arrive at times of the test's choice."""

    def __init__(self, edge: Any, owner: Owner, redis_client: Redis) -> None:
        self.edge, self.owner, self.redis = edge, owner, redis_client

    async def register(self) -> "Clocked":
        self.id = await self.owner.device()
        await self.edge.services.postgres.execute("UPDATE devices SET registered_at = $2 WHERE id = $1", self.id, T0)
        self.shard = (await self.owner.row(self.id))["shard"]
        return self

    async def say(self, arrives: timedelta, body: bytes, clock: timedelta | None = None) -> Any:
        """Have one message stored; the state after it: status, telemetries."""
        if clock is not None:
            body = body[:-1] + b',"timestamp":"%b"}' % rfc3339(T0 + clock).encode()
        us = int((T0 + arrives).timestamp() * 1_000_000)
        await self.redis.xadd(keys.ingest(self.shard), {"b": entries.pack(us, [str(self.id).encode(), b"00", body])})
        [shards] = flushers(self.edge, self.redis)
        await drain(shards)
        query = "SELECT status, telemetries FROM device_state WHERE device_id = $1"
        return tuple(await self.edge.services.postgres.fetchrow(query, self.id))


@pytest.fixture
async def clocked(edge: Any, acme: Owner, redis_client: Redis) -> Clocked:
    """A device of Acme."""
    return await Clocked(edge, acme, redis_client).register()


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


@pytest.mark.parametrize("override", [b"true", b"false"])
@pytest.mark.parametrize("ahead_min", [2, 60, 23 * 60])
async def test_a_message_from_the_future_freezes_nothing(clocked: Clocked, ahead_min: int, override: bytes) -> None:
    """What comes a minute later counts, with the right time, or none, or with `override`; history keeps the times."""
    first = b'{"status":"error","telemetries":{"n":1,"old":1},"override":%b}' % override
    assert await clocked.say(minutes(10), first, clock=minutes(10 + ahead_min)) == ("error", {"n": 1, "old": 1})
    body = b'{"status":"online","telemetries":{"n":%d}}'
    assert await clocked.say(minutes(12), body % 2) == ("online", {"n": 2, "old": 1})
    assert await clocked.say(minutes(13), body % 3, clock=minutes(13)) == ("online", {"n": 3, "old": 1})
    last = b'{"telemetries":{"n":4},"override":true}'
    assert await clocked.say(minutes(14), last) == (None, {"n": 4})
    rows = await clocked.edge.services.postgres.fetch("SELECT ts FROM events WHERE type = 'telemetry' ORDER BY seq")
    assert [row["ts"] - T0 for row in rows] == [minutes(10 + ahead_min), minutes(12), minutes(13), minutes(14)]


async def test_a_local_clock_that_is_set_back_an_hour_freezes_nothing(clocked: Clocked) -> None:
    """A clock two hours ahead that is then one hour ahead: each message counts when it comes."""
    for n in range(4):
        body = b'{"telemetries":{"n":%d}}' % n
        state = await clocked.say(minutes(10 + n), body, clock=minutes((120 if n < 2 else 60) + 10 + n))
        assert state == (None, {"n": n})


async def test_a_time_from_before_the_registration_counts_as_none(clocked: Clocked) -> None:
    """A device that wakes up in 1970 and then sets its clock, or loses it again."""
    assert await clocked.say(minutes(10), b'{"telemetries":{"n":1}}', clock=timedelta(days=-20_000)) == (None, {"n": 1})
    assert await clocked.say(minutes(11), b'{"telemetries":{"n":2}}', clock=minutes(11)) == (None, {"n": 2})
    assert await clocked.say(minutes(12), b'{"telemetries":{"n":3}}', clock=minutes(-1)) == (None, {"n": 3})
    first = await clocked.edge.services.postgres.fetchval("SELECT min(ts) FROM events WHERE type = 'telemetry'")
    assert first == T0 - timedelta(days=20_000)


async def test_a_late_message_still_changes_nothing_newer(clocked: Clocked) -> None:
    """A device that was offline sends its batch after its newest message."""
    assert await clocked.say(minutes(60), b'{"telemetries":{"n":9}}', clock=minutes(60)) == (None, {"n": 9})
    late = b'{"status":"online","telemetries":{"n":1,"m":2}}'
    assert await clocked.say(minutes(61), late, clock=minutes(30)) == ("online", {"n": 9, "m": 2})


async def test_what_a_device_reports_is_not_frozen_either(clocked: Clocked) -> None:
    """The typed event of a wrong clock gives way to the next; within a batch likewise."""
    pool = clocked.edge.services.postgres
    await pool.execute('UPDATE device_models SET event_mappings = \'{"temp": "temperature"}\'')

    async def reported() -> float:
        query = "SELECT data FROM device_reported WHERE device_id = $1 AND type = 'temperature'"
        data = await pool.fetchval(query, clocked.id)
        value: float = data["temperature"]["value"]
        return value

    await clocked.say(minutes(10), b'{"telemetries":{"temp":20}}', clock=minutes(10 + 23 * 60))
    assert await reported() == 20
    await clocked.say(minutes(12), b'{"telemetries":{"temp":21}}')
    assert await reported() == 21
    await clocked.say(minutes(13), b'{"telemetries":{"temp":22}}', clock=timedelta(days=-400))
    assert await reported() == 22
    await clocked.say(minutes(14), b'{"telemetries":{"temp":1}}', clock=minutes(11))
    assert await reported() == 22
