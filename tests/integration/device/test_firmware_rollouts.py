"""A rollout as its devices see it: firmware exists for whom it has reached, and what they fetch is evidence."""

import asyncio
from uuid import UUID

import pytest
from campaigns import Campaign, campaign
from fleets import Fleet, Unit
from test_downloads import DATA, Shelf, fetch

from schemas.redis import Redis


@pytest.fixture
def shelf(fleet: Fleet) -> Shelf:
    return Shelf(fleet)


async def _rolled_out(shelf: Shelf, redis: Redis, units: int, **body: object) -> tuple[Campaign, list[Unit]]:
    made = [await shelf.fleet.unit(claimed=True) for _ in range(units)]
    file_id = UUID(await shelf.file(version="2.0.0"))
    spring = await campaign(shelf.fleet.owner, redis, file_id=file_id, **body)
    await spring.advance(seconds=1)
    return spring, made


async def test_firmware_does_not_exist_for_whom_its_rollout_has_not_reached(shelf: Shelf, redis_client: Redis) -> None:
    """Neither in the list nor by its id, nor its bytes: 404, and never 401 or 403."""
    spring, units = await _rolled_out(shelf, redis_client, 2, waves=[{"count": 1}])
    reached = await spring.offered()
    assert len(reached) == 1
    for unit in units:
        inside = UUID(unit.id) in reached
        assert len(await unit.call("GET", "/files")) == inside
        assert (await unit.ask("GET", f"/files/{spring.file_id}"))[0] == (200 if inside else 400)
        assert (await fetch(unit, str(spring.file_id))).status == (200 if inside else 404)
        assert ((await unit.waits())["latest_fw_version"] == "2.0.0") == inside


async def test_ranges_that_a_device_fetches_are_evidence(shelf: Shelf, redis_client: Redis) -> None:
    """With the first it downloads, with the last it installs; one that asks for the headers alone does neither."""
    spring, [unit] = await _rolled_out(shelf, redis_client, 1)
    device_id = UUID(unit.id)
    for method, headers, state in (
        ("HEAD", {}, "offered"),
        ("GET", {"range": f"bytes={len(DATA)}-"}, "offered"),
        ("GET", {"range": "bytes=0-2047"}, "downloading"),
        ("GET", {"range": "bytes=2048-4095"}, "downloading"),
        ("GET", {"range": f"bytes={len(DATA) - 10}-"}, "installing"),
    ):
        await fetch(unit, str(spring.file_id), method, **headers)
        await spring.advance(seconds=1)
        async with asyncio.timeout(10):  # the last byte is noted once it was sent
            while state == "installing" and (await spring.states())[device_id] == "downloading":
                await spring.advance(seconds=1)
        assert (await spring.states())[device_id] == state, headers
    await unit.call("PUT", "", {"firmware_version": "v2.0.0"})
    await spring.advance(seconds=1)
    assert (await spring.status(), (await spring.states())[device_id]) == ("finished", "succeeded")
    types = await spring.owner.pool.fetch("SELECT type, data FROM event_outbox ORDER BY id")
    told = [next(iter(row["data"].values())) for row in types if row["type"] == "rolloutUpdated"]
    assert [event["state"] for event in told] == ["offered", "downloading", "installing", "succeeded"]
    [updated] = [row["data"]["firmwareUpdated"] for row in types if row["type"] == "firmwareUpdated"]
    assert (updated["version"], updated["previousVersion"]) == ("2.0.0", "1.0.0")


@pytest.mark.parametrize("action", ["pause", "abort"])
async def test_who_has_begun_is_left_alone_and_nobody_else(shelf: Shelf, redis_client: Redis, action: str) -> None:
    """Before any worker has looked, and after: one goes on with its download, the other finds nothing."""
    spring, [begun, idle] = await _rolled_out(shelf, redis_client, 2)
    assert (await fetch(begun, str(spring.file_id), range="bytes=0-9")).status == 206
    await spring.act(action)
    for _ in range(2):
        assert (await fetch(begun, str(spring.file_id), range="bytes=10-19")).status == 206
        assert (await fetch(idle, str(spring.file_id))).status == 404
        assert (await idle.waits())["latest_fw_version"] is None
        await spring.advance(seconds=1)
    states = await spring.states()
    assert states[UUID(begun.id)] == "downloading"
    assert states[UUID(idle.id)] == ("waiting" if action == "pause" else "cancelled")
