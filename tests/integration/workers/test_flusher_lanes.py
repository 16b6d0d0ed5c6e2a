"""Shards that are flushed together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from flushing import flusher_of, send
from owners import Owner
from prometheus_client import CollectorRegistry

from schemas import keys
from schemas.metrics import Metrics
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from tests.conftest import MASTER_KEY, SHARDS
from workers.flusher.lanes import Lane, Lanes, apart_s
from workers.postgres_history import PostgresHistory
from workers.shares import LostSlotError

METRICS = Metrics(CollectorRegistry())


@pytest.fixture
async def lane(edge: Any, redis_client: Redis) -> Lane:
    """One lane."""
    flusher = flusher_of(edge, redis_client)
    return Lane(flusher, 0.05)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


async def stored(edge: Any) -> int:
    count: int = await edge.services.postgres.fetchval("SELECT count(*) FROM events WHERE type = 'telemetry'")
    return count


async def test_one_lane_flushes_all_its_shards_and_lets_each_go_by_itself(
    edge: Any, acme: Owner, redis_client: Redis, lane: Lane
) -> None:
    """Each shard's sequence has no gap; a shard that is given back is flushed no more, the others are."""
    shards: dict[UUID, int] = {}
    while len(shards) < 16 or set(shards.values()) != set(range(SHARDS)):
        device = await acme.device()
        shards[device] = (await acme.row(device))["shard"]
    devices = list(shards)
    done = {shard: asyncio.Event() for shard in range(SHARDS)}
    owners = {shard: asyncio.create_task(lane.own(shard, event)) for shard, event in done.items()}
    for device in devices:
        await send(edge, device, telemetries={"n": 1})
    await until(lambda: _equals(stored(edge), len(devices)))
    rows = await acme.pool.fetch("SELECT shard, array_agg(seq ORDER BY seq) AS seqs FROM events GROUP BY 1")
    heads = dict(await acme.pool.fetch("SELECT shard, next_seq FROM shards"))
    assert all(row["seqs"] == list(range(1, heads[row["shard"]])) for row in rows)
    done[0].set()
    await owners[0]
    for device in devices:
        await send(edge, device, telemetries={"n": 2})
    left = [device for device in devices if shards[device] != 0]
    await until(lambda: _equals(stored(edge), len(devices) + len(left)))
    assert await redis_client.xlen(keys.ingest(0)) > 0
    for event in done.values():
        event.set()
    await asyncio.gather(*owners.values())


async def test_a_shard_that_was_lost_does_not_take_the_others_with_it(edge: Any, acme: Owner, lane: Lane) -> None:
    """Nothing of a batch with an overtaken shard is stored; without that shard it is, once."""
    devices = [await acme.device() for _ in range(16)]
    shards = {device: (await acme.row(device))["shard"] for device in devices}
    done = asyncio.Event()
    owners = {shard: asyncio.create_task(lane.own(shard, done)) for shard in range(SHARDS)}
    await until(lambda: _equals(_length(lane), SHARDS))
    await acme.pool.execute("UPDATE shards SET stream_offset = '1-1' WHERE shard = 1")
    for device in devices:
        await send(edge, device, telemetries={"n": 1})
    with pytest.raises(LostSlotError):
        await owners.pop(1)
    left = [device for device in devices if shards[device] != 1]
    await until(lambda: _equals(stored(edge), len(left)))
    done.set()
    await asyncio.gather(*owners.values())


async def test_traffic_on_one_shard_does_not_hide_that_anothers_stream_is_gone(
    edge: Any, acme: Owner, redis_client: Redis, lane: Lane
) -> None:
    """The lost stream is rebuilt by a flush that stores messages of another shard."""
    device = await acme.device()
    busy = (await acme.row(device))["shard"]
    lost = (busy + 1) % SHARDS
    flusher = lane._flusher
    await asyncio.gather(flusher.open(busy), flusher.open(lost))
    await redis_client.delete(keys.ingest(lost))
    await send(edge, device, telemetries={"n": 1})
    assert await flusher.flush() == 1
    assert await redis_client.exists(keys.ingest(lost))


async def test_what_others_hand_over_is_stored_while_lanes_wait_for_messages(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """In the log, and out of the outbox, whichever lane has the shard; one that lost a shard gives it up."""
    device = await acme.device()
    shard = (await acme.row(device))["shard"]
    await acme.pool.execute("DELETE FROM event_outbox")
    history = PostgresHistory(acme.pool, redis_client, METRICS)
    settings = WorkerSettings(postgres_dsn="", redis_url="", master_key=MASTER_KEY, flush_interval_s=0.01)
    lanes = Lanes(acme.pool, redis_client, METRICS, settings, SHARDS, history, lambda _: None)
    done = asyncio.Event()
    owners = {shard: asyncio.create_task(lanes.own(shard, done)) for shard in range(SHARDS)}
    await until(lambda: _equals(_opened(lanes), SHARDS))
    hand_over = """INSERT INTO event_outbox (shard, type, device_id, project_id, data)
                   SELECT shard, 'touch', id, project_id, '{}' FROM devices WHERE id = $1"""
    await acme.pool.execute(hand_over, device)
    await lanes.take_outbox()
    assert await acme.pool.fetchval("SELECT count(*) FROM events WHERE type = 'touch'") == 1
    await acme.pool.execute("UPDATE shards SET stream_offset = '1-1' WHERE shard = $1", shard)
    await acme.pool.execute(hand_over, device)
    await lanes.take_outbox()
    with pytest.raises(LostSlotError):
        await owners.pop(shard)
    assert await acme.pool.fetchval("SELECT count(*) FROM event_outbox") == 1
    done.set()
    await asyncio.gather(*owners.values())


@pytest.mark.parametrize(("stored_s", "rest_s"), [(0.0, 0.05), (0.005, 0.05), (0.03, 0.12), (5.0, 0.25)])
def test_batches_begin_the_later_the_longer_they_take_to_be_stored(stored_s: float, rest_s: float) -> None:
    """So they grow with load; never sooner than the interval, and not much later however long it takes."""
    assert apart_s(0.05, stored_s) == rest_s


async def _equals(value: Awaitable[int], expected: int) -> bool:
    return await value == expected


async def _length(lane: Lane) -> int:
    return len(lane._flusher.positions)


async def _opened(lanes: Lanes) -> int:
    return sum([await _length(lane) for lane in lanes._lanes])
