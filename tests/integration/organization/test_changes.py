"""A change of devices is one transaction; what it touched is told after the commit, or never."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
from owners import Owner, outbox

from gateway.services import Services
from gateway.stores.change import REPLIES_MAX, change
from gateway.stores.devices import config as device_configs
from gateway.stores.devices import deletion, locking
from schemas import keys, redis


async def reply(owner: Owner, services: Services, device_id: UUID) -> bytes | None:
    """The prepared reply of a device."""
    shard = (await owner.row(device_id))["shard"]
    found: bytes | None = await services.redis.hget(keys.reply(shard), str(device_id))
    return found


async def put_config(services: Services, owner: Owner, device_id: UUID) -> None:
    async with change(services) as changed:
        device = await locking.lock(changed.connection, owner.organization_id, device_id)
        await device_configs.put_of_owner(changed, device, {"a": 1}, None)


async def test_replies_are_published_after_the_commit(edge: Any, acme: Owner) -> None:
    """Inside the change the device is told nothing yet: what it would be told may still be undone."""
    device_id = await acme.device()
    before = await reply(acme, edge.services, device_id)
    async with change(edge.services) as changed:
        device = await locking.lock(changed.connection, acme.organization_id, device_id)
        await device_configs.put_of_owner(changed, device, {"a": 1}, None)
        assert await reply(acme, edge.services, device_id) == before
        assert await outbox(acme.pool) == []
    assert b'"config_version":1' in (await reply(acme, edge.services, device_id) or b"")
    assert await outbox(acme.pool) == [("configChanged", device_id)]


async def test_a_change_that_fails_tells_nothing(edge: Any, acme: Owner) -> None:
    """Neither the device nor its project hears of what was rolled back."""
    device_id = await acme.device()
    before = await reply(acme, edge.services, device_id)

    async def fail() -> None:
        async with change(edge.services) as changed:
            device = await locking.lock(changed.connection, acme.organization_id, device_id)
            await device_configs.put_of_owner(changed, device, {"a": 1}, None)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await reply(acme, edge.services, device_id) == before
    assert await outbox(acme.pool) == []
    assert (await acme.row(device_id))["config_version"] == 0


async def test_with_redis_away_a_change_stands(edge: Any, acme: Owner) -> None:
    """The device is noted for a worker, who tells it once Redis is back."""
    device_id = await acme.device()
    away = redis.connect("redis://127.0.0.1:1/0")
    services: Services = msgspec.structs.replace(edge.services, redis=away)
    await acme.pool.execute("DELETE FROM reply_queue")
    await put_config(services, acme, device_id)
    await away.aclose()
    assert (await acme.row(device_id))["config_version"] == 1
    assert await outbox(acme.pool) == [("configChanged", device_id)]
    assert await acme.pool.fetchval("SELECT device_id FROM reply_queue") == device_id


async def test_very_many_devices_are_left_to_a_worker(edge: Any, acme: Owner) -> None:
    """The caller waits for the replies of so many only; all are noted."""
    async with change(edge.services) as changed:
        changed.touched(*(UUID(int=n) for n in range(REPLIES_MAX + 5)))
        changed.touched(UUID(int=REPLIES_MAX + 6))
        assert repr(changed) == f"<Change touched={REPLIES_MAX} events=0>"


async def test_many_devices_are_deleted_with_as_many_statements_as_one(
    edge: Any, acme: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all below them and their commands, in batches; each command's end is told before its device's."""
    roots = [await acme.device() for _ in range(5)]
    below = await acme.device(parent_id=roots[0])
    sent = await acme.call("POST", f"/devices/{below}/commands", {"command": "reboot"})
    await acme.pool.execute("DELETE FROM event_outbox")

    async def delete(device_ids: list[UUID]) -> tuple[int, int]:
        statements: list[str] = []
        async with change(edge.services) as changed:
            changed.connection.add_query_logger(lambda query: statements.append(query.query))
            deleted = await deletion.delete(changed, device_ids)
            return deleted, len(statements)

    one = await delete(roots[4:])
    assert one[0] == 1
    assert await delete([*roots[:4], below]) == (5, one[1])
    assert await delete(roots) == (0, one[1] - 1)
    told = await outbox(acme.pool)
    assert told.index(("commandUpdated", below)) < told.index(("deviceDeleted", below))
    assert sorted(told) == sorted([("commandUpdated", below), *(("deviceDeleted", one) for one in [*roots, below])])
    assert await acme.pool.fetchval("SELECT status FROM commands WHERE id = $1", UUID(sent["id"])) == "aborted"

    monkeypatch.setattr(deletion, "BATCH", 2)
    more = [await acme.device() for _ in range(5)]
    assert (await delete(more))[0] == 5
