"""A hardware key lies in every device of a model, and can be read out of one. What came of that can be undone."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fleets import Fleet, fleet_of
from flushing import store_all
from owners import Owner

from gateway.organization import hardware_keys
from gateway.stores.devices.deletion import STILL_GOOD
from schemas import keys, replies
from schemas.redis import Redis
from workers.replies import ReplyRefresher


async def path_of_key(fleet: Fleet) -> str:
    """Where the fleet's hardware key is."""
    key_id = await fleet.owner.pool.fetchval("SELECT id FROM hardware_keys")
    return f"/models/{fleet.owner.model_id}/hardware_keys/{key_id}"


async def deleted_long_ago(owner: Owner, device_id: str) -> None:
    """Let some hours have passed since a device was deleted."""
    async with owner.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")  # it is no change of today
        await connection.execute("UPDATE devices SET deleted_at = now() - interval '2 hours' WHERE id = $1", device_id)


async def test_what_registered_with_a_revoked_key_is_deleted_but_not_what_is_somebodys(
    acme: Owner, globex: Owner, monkeypatch: Any
) -> None:
    """Devices that were claimed stay, with what they hang below; the rest goes, some at a time."""
    fleet = await fleet_of(acme)
    claimed = await fleet.unit(claimed=True)
    parent = await fleet.unit()
    child = await fleet.unit(parent_id=parent.id)
    await acme.pool.execute(
        """UPDATE devices d SET organization_id = c.organization_id, project_id = c.project_id, space_id = c.space_id,
                  claimed_at = c.claimed_at
             FROM devices c WHERE c.id = $1 AND d.id = $2""",
        claimed.id,
        child.id,
    )
    rogues = [await fleet.unit() for _ in range(3)]
    path = await path_of_key(fleet)
    assert await acme.call("DELETE", f"{path}/devices") == (409, STILL_GOOD)
    await acme.call("DELETE", path)
    assert (await globex.call("DELETE", f"{path}/devices"))[0] == 404
    monkeypatch.setattr(hardware_keys, "DELETED_AT_ONCE_MAX", 2)
    assert await acme.call("DELETE", f"{path}/devices") == {"deleted": 2, "more": True}
    assert await acme.call("DELETE", f"{path}/devices") == {"deleted": 1, "more": False}
    assert [(await one.ask("GET"))[0] for one in (claimed, parent, child, *rogues)] == [200] * 3 + [401] * 3


async def test_redis_keeps_nothing_of_deleted_devices(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """An hour after their deletion their replies are gone."""
    fleet = await fleet_of(acme)
    units = [await fleet.unit() for _ in range(4)]
    for unit in units:
        assert (await unit.ask("DELETE"))[0] == 200
        assert (await unit.ask("POST", "/telemetry", {"status": "online"}))[0] == 401
    refresher = ReplyRefresher(acme.pool, redis_client)
    await refresher.refresh(datetime.now(UTC) + timedelta(minutes=59))
    assert await kept(acme, redis_client) == 4
    await refresher.refresh(datetime.now(UTC) + timedelta(minutes=61))
    assert await kept(acme, redis_client) == 0
    assert await acme.pool.fetchval("SELECT count(*) FROM reply_queue") == 0


async def test_a_deleted_device_that_calls_after_that_is_turned_away_again(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """Its message is dropped and counted so, and it is told with the next one."""
    fleet = await fleet_of(acme)
    unit = await fleet.unit()
    await unit.ask("DELETE")
    refresher = ReplyRefresher(acme.pool, redis_client)
    await refresher.refresh(datetime.now(UTC) + timedelta(seconds=5))
    await deleted_long_ago(acme, unit.id)
    await refresher.refresh(datetime.now(UTC) + timedelta(minutes=61))
    assert (await unit.ask("POST", "/telemetry", {"status": "online"}))[0] == 201
    await store_all(edge, redis_client)
    stored = await acme.pool.fetch("SELECT outcome, sum(count) FROM ingest_ledger WHERE shard >= 0 GROUP BY outcome")
    assert [tuple(row) for row in stored] == [("rejected_deleted", 1)]
    await refresher.refresh(datetime.now(UTC) + timedelta(seconds=5))
    assert (await unit.ask("POST", "/telemetry", {"status": "online"}))[0] == 401
    await refresher.refresh(datetime.now(UTC) + timedelta(days=6))
    assert await kept(acme, redis_client) == 1
    await refresher.refresh(datetime.now(UTC) + timedelta(days=8))
    assert await kept(acme, redis_client) == 0


async def test_a_rebuilt_redis_knows_only_those_deleted_just_now(acme: Owner, redis_client: Redis) -> None:
    """What was forgotten before does not come back with a rebuild."""
    fleet = await fleet_of(acme)
    old, new = await fleet.unit(), await fleet.unit()
    for unit in (old, new):
        await unit.ask("DELETE")
    await deleted_long_ago(acme, old.id)
    await redis_client.flushall()
    async with acme.pool.acquire() as connection:
        for shard in range(acme.shards):
            await replies.rebuild(connection, redis_client, shard)
    assert await kept(acme, redis_client) == 1


async def kept(owner: Owner, redis_client: Redis) -> int:
    """Replies in Redis, without the marks that they are complete."""
    counts = [await redis_client.hlen(keys.reply(shard)) for shard in range(owner.shards)]
    return sum(counts) - owner.shards
