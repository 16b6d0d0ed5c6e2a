"""Commands that become due, take too long, or are never fetched."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from owners import Owner
from prometheus_client import CollectorRegistry

from schemas import keys, redis
from schemas.metrics import Metrics
from schemas.redis import Redis
from workers.command_clock import CommandClock

NOW = datetime.now(UTC)


@pytest.fixture
async def clock(edge: Any, redis_client: Redis) -> CommandClock:
    return CommandClock(edge.services.postgres, redis_client, Metrics(CollectorRegistry()))


async def sent(acme: Owner, device_id: Any, **options: Any) -> Any:
    """Send a command; its id."""
    answer = await acme.call("POST", f"/devices/{device_id}/commands", {"command": "reboot", **options})
    return answer["id"]


async def status(acme: Owner, command_id: Any) -> Any:
    row = await acme.pool.fetchrow("SELECT status, message FROM commands WHERE id = $1", command_id)
    return tuple(row)


async def told(redis_client: Redis, acme: Owner, device_id: Any) -> bool:
    """Whether the device's next telemetry answer says that a command waits."""
    reply = await redis_client.hget(keys.reply((await acme.row(device_id))["shard"]), str(device_id))
    return reply is not None and b'"command":true' in reply


async def test_a_scheduled_command_waits_for_its_time(acme: Owner, clock: CommandClock, redis_client: Redis) -> None:
    """Then it is pending, and the device is told."""
    device_id = await acme.device()
    at = NOW + timedelta(hours=1)
    command_id = await sent(acme, device_id, scheduled_at=at.isoformat())
    assert await clock.advance(at - timedelta(seconds=1)) == 0
    assert (await status(acme, command_id), await told(redis_client, acme, device_id)) == (("scheduled", None), False)
    assert await clock.advance(at) == 1
    assert (await status(acme, command_id), await told(redis_client, acme, device_id)) == (("pending", None), True)


async def test_a_command_times_out_from_its_first_delivery(
    acme: Owner, clock: CommandClock, redis_client: Redis
) -> None:
    """600 s after that, to the second; a command that was not delivered yet does not."""
    device_id = await acme.device()
    delivered, waiting = await sent(acme, device_id), await sent(acme, device_id)
    await acme.pool.execute("UPDATE commands SET delivered_at = $2 WHERE id = $1", delivered, NOW)
    assert await clock.advance(NOW + timedelta(seconds=599)) == 0
    assert await clock.advance(NOW + timedelta(seconds=600)) == 1
    assert await status(acme, delivered) == ("failed", "Timed out after 600 s")
    assert await status(acme, waiting) == ("pending", None)
    assert await told(redis_client, acme, device_id) is True
    last = await acme.pool.fetchval("SELECT data FROM event_outbox ORDER BY id DESC LIMIT 1")
    assert last["commandUpdated"]["status"] == "failed"
    assert last["commandUpdated"]["commandId"] == str(delivered)


async def test_a_command_that_nobody_fetches_expires_after_seven_days(
    acme: Owner, clock: CommandClock, redis_client: Redis
) -> None:
    """And the device is no longer told of it."""
    device_id = await acme.device()
    command_id = await sent(acme, device_id)
    assert await clock.advance(NOW + timedelta(days=6, hours=23)) == 0
    assert await clock.advance(datetime.now(UTC) + timedelta(days=7)) == 1
    assert await status(acme, command_id) == ("failed", "Expired: the device never fetched it")
    assert await told(redis_client, acme, device_id) is False


async def test_two_clocks_change_a_command_once(acme: Owner, clock: CommandClock) -> None:
    """The one that comes second finds it changed, or skips it while it is being changed."""
    device_id = await acme.device()
    await sent(acme, device_id, scheduled_at=(NOW + timedelta(hours=1)).isoformat())
    later = NOW + timedelta(hours=2)
    async with acme.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT FROM commands FOR UPDATE")
        assert await clock.advance(later) == 0
        await transaction.rollback()
    assert await clock.advance(later) == 1
    assert await clock.advance(later) == 0


async def test_with_redis_away_commands_advance(acme: Owner, clock: CommandClock) -> None:
    """All that are due; their devices are noted for whoever writes replies."""
    waiting = await acme.device()
    unfetched = await acme.device()
    await sent(acme, waiting, scheduled_at=(NOW + timedelta(hours=1)).isoformat())
    await sent(acme, unfetched)
    await acme.pool.execute("DELETE FROM reply_queue")
    away = redis.connect("redis://127.0.0.1:1/0")
    assert await CommandClock(acme.pool, away, Metrics(CollectorRegistry())).advance(NOW + timedelta(days=8)) == 3
    await away.aclose()
    noted = await acme.pool.fetch("SELECT device_id FROM reply_queue")
    assert {row["device_id"] for row in noted} == {waiting, unfetched}


async def test_the_clock_reads_what_is_due_and_nothing_else(acme: Owner, clock: CommandClock) -> None:
    """By an index of what time will change, whatever was ever sent."""
    device_id = await acme.device()
    await acme.pool.execute(
        """INSERT INTO commands (id, device_id, name, friendly_name, status, timeout_s, expires_at, finished_at)
           SELECT gen_random_uuid(), $1, 'reboot', 'Reboot', 'done', 600, now(), now() FROM generate_series(1, 2000)""",
        device_id,
    )
    command_id = await sent(acme, device_id)
    await acme.pool.execute("ANALYZE commands")
    await acme.pool.execute("UPDATE commands SET delivered_at = $2 WHERE id = $1", command_id, NOW)
    rows = await acme.pool.fetch("SELECT id, due_at FROM commands WHERE due_at IS NOT NULL")
    assert [(str(row["id"]), row["due_at"]) for row in rows] == [(command_id, NOW + timedelta(seconds=600))]
    plan = await acme.pool.fetch(
        """EXPLAIN SELECT c.id FROM commands c JOIN devices d ON d.id = c.device_id
            WHERE c.due_at <= now() ORDER BY c.due_at LIMIT 1000 FOR NO KEY UPDATE OF c, d SKIP LOCKED"""
    )
    assert "commands_due" in str(plan)
    assert await clock.advance(NOW + timedelta(seconds=600)) == 1
    assert await acme.pool.fetchval("SELECT count(*) FROM commands WHERE due_at IS NOT NULL") == 0


async def test_a_command_that_was_fetched_does_not_expire_as_if_it_had_not_been(
    acme: Owner, clock: CommandClock
) -> None:
    """From its delivery on it has its timeout, also where that ends after the seven days."""
    command_id = await sent(acme, await acme.device())
    expires_at = await acme.pool.fetchval("SELECT expires_at FROM commands WHERE id = $1", command_id)
    delivered_at = expires_at - timedelta(seconds=300)
    await acme.pool.execute("UPDATE commands SET delivered_at = $2 WHERE id = $1", command_id, delivered_at)
    assert await clock.advance(expires_at + timedelta(seconds=299)) == 0
    assert await status(acme, command_id) == ("pending", None)
    assert await clock.advance(expires_at + timedelta(seconds=300)) == 1
    assert await status(acme, command_id) == ("failed", "Timed out after 600 s")
