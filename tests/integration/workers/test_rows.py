"""What is stored with an event, made from it, and remembered of it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flushing import drain, flushers, send, store_all
from owners import Owner

from gateway.stores.devices import project_view
from schemas import outbox, typed_events
from schemas.events import EventType, rfc3339
from schemas.life_cycle import ConfigChanged
from schemas.redis import Redis
from tests.conftest import SHARDS
from workers.flusher.rows import Rows

NOW = datetime.now(UTC).replace(microsecond=0)


def stamp(moment: datetime) -> str:
    return rfc3339(moment)


async def log(edge: Any) -> list[tuple[str, Any]]:
    """Types and data of all events, as stored."""
    rows = await edge.services.postgres.fetch("SELECT type, data FROM events ORDER BY shard, seq")
    return [(row["type"], row["data"][row["type"]]) for row in rows]


async def reported(edge: Any, device_id: UUID) -> dict[str, Any]:
    """What is remembered of a device, and that it is the event that the log has at that place."""
    rows = await edge.services.postgres.fetch(
        """SELECT r.type, r.data, e.data::text = r.data::text AND e.ts = r.ts AND e.type = r.type AS same
             FROM device_reported r JOIN events e USING (shard, seq, stored_at) WHERE r.device_id = $1""",
        device_id,
    )
    assert all(row["same"] for row in rows)
    return {row["type"]: row["data"][row["type"]] for row in rows}


async def map_telemetry(owner: Owner, **mapping: str) -> None:
    await owner.pool.execute("UPDATE device_models SET event_mappings = $2 WHERE id = $1", owner.model_id, mapping)


async def publish(owner: Owner, device_id: UUID, event_type: EventType, **data: Any) -> None:
    """Hand over a typed event, as the emulator does."""
    made = typed_events.read(event_type, data, datetime.now(UTC))
    async with owner.pool.acquire() as connection:
        await outbox.append(connection, [outbox.Event(device_id, event_type, made.ts, made.data)])


async def test_events_carry_the_labels_their_device_has_when_they_are_stored(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """Name and description among them; a device without any has none. Life-cycle events have them too."""
    plain, named = await acme.device(), await acme.device(name="Hall", description="by the door", labels={"floor": "2"})
    for device_id in (plain, named):
        await send(edge, device_id, telemetries={"n": 1})
        await publish(acme, device_id, EventType.TOUCH)
    await store_all(edge, redis_client)
    rows = await acme.pool.fetch("SELECT device_id, type, labels FROM events")
    labels = {"floor": "2", "name": "Hall", "description": "by the door"}
    assert sorted((row["device_id"] == named, row["type"], row["labels"]) for row in rows if row["labels"]) == [
        (True, "telemetry", labels),
        (True, "touch", labels),
    ]
    assert len(rows) == 4
    await acme.pool.execute("UPDATE devices SET name = 'Cellar' WHERE id = $1", named)
    await send(edge, named, telemetries={"n": 2})
    await store_all(edge, redis_client)
    names = await acme.pool.fetch("SELECT labels->>'name' AS name FROM events WHERE device_id = $1 ORDER BY seq", named)
    assert [row["name"] for row in names] == ["Hall", "Hall", "Cellar"]


async def test_mapped_values_become_typed_events_behind_their_message(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """In the order of the messages, each with the time of its message; what is not mapped makes none."""
    await map_telemetry(acme, temp="temperature", door="contact")
    device_id = await acme.device()
    await send(edge, device_id, telemetries={"temp": 21.5, "fan": 3}, timestamp=stamp(NOW))
    await send(edge, device_id, telemetries={"fan": 4})
    await send(edge, device_id, telemetries={"door": True}, timestamp=stamp(NOW))
    await store_all(edge, redis_client)
    found = await log(edge)
    assert [kind for kind, _ in found] == ["telemetry", "temperature", "telemetry", "telemetry", "contact"]
    assert found[1][1] == {
        "updateTime": stamp(NOW),
        "value": 21.5,
        "samples": [{"value": 21.5, "sampleTime": stamp(NOW)}],
        "isBackfilled": False,
    }
    assert found[4][1] == {"updateTime": stamp(NOW), "state": "CLOSED"}
    assert await reported(edge, device_id) == {"temperature": found[1][1], "contact": found[4][1]}


async def test_a_changed_mapping_counts_from_the_next_flush(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """Nothing has to be started anew, neither when a mapping comes nor when it goes."""
    device_id = await acme.device()
    [shards] = flushers(edge, redis_client)
    for mapping in ({}, {"n": "co2"}, {"n": "pressure"}, {}):
        await map_telemetry(acme, **mapping)
        await send(edge, device_id, telemetries={"n": 7})
        await drain(shards)
    kinds = [kind for kind, _ in await log(edge) if kind != "telemetry"]
    assert kinds == ["co2", "pressure"]


async def test_values_that_do_not_fit_are_counted_and_the_message_is_stored(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """A mapping never costs a message. One that this program cannot read is left alone."""
    device_id = await acme.device()
    [shards] = flushers(edge, redis_client)
    await map_telemetry(acme, n="touchCount", m="temperature")
    await send(edge, device_id, telemetries={"n": 1.5, "m": "warm"})
    assert await drain(shards) == 1
    await map_telemetry(acme, n="no such type")
    await send(edge, device_id, telemetries={"n": 1})
    assert await drain(shards) == 1
    assert [kind for kind, _ in await log(edge)] == ["telemetry", "telemetry"]
    counted = [flusher._metrics.mapped_values_unfit._value.get() for flusher in shards]
    assert sum(counted) == 2


async def test_a_device_that_nobody_claimed_has_no_typed_events(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """Its telemetry is its vendor's; events belong to projects."""
    await map_telemetry(acme, n="co2")
    device_id = await acme.device(claimed=False)
    await send(edge, device_id, telemetries={"n": 1})
    await store_all(edge, redis_client)
    assert [kind for kind, _ in await log(edge)] == ["telemetry"]
    assert await reported(edge, device_id) == {}


async def test_the_newest_event_is_reported_whatever_order_they_come_in(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """By the time it happened, within a flush and between flushes; of two at the same time the last that came."""
    await map_telemetry(acme, n="co2")
    device_id = await acme.device()

    async def at(minutes: int, value: int) -> None:
        await send(edge, device_id, telemetries={"n": value}, timestamp=stamp(NOW + timedelta(minutes=minutes - 60)))

    await at(0, 1)
    await at(5, 2)
    await at(3, 3)
    await store_all(edge, redis_client)
    assert (await reported(edge, device_id))["co2"]["ppm"] == 2
    await at(4, 4)
    await store_all(edge, redis_client)
    assert (await reported(edge, device_id))["co2"]["ppm"] == 2
    await at(5, 5)
    await store_all(edge, redis_client)
    assert (await reported(edge, device_id))["co2"]["ppm"] == 5
    await publish(acme, device_id, EventType.CO2, ppm=6, updateTime=stamp(NOW + timedelta(minutes=6)))
    await publish(acme, device_id, EventType.CO2, ppm=7, updateTime=stamp(NOW + timedelta(minutes=2)))
    await store_all(edge, redis_client)
    assert (await reported(edge, device_id))["co2"]["ppm"] == 6


async def test_the_place_of_the_newest_message_is_kept_with_the_state(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """By the time that orders states, within a flush and between flushes; a late one leaves it alone."""
    device_id = await acme.device()

    async def sent(*messages: tuple[int, int]) -> int:
        for minutes, value in messages:
            at = stamp(NOW + timedelta(minutes=minutes - 60))
            await send(edge, device_id, telemetries={"n": value}, timestamp=at)
        await store_all(edge, redis_client)
        data = await acme.pool.fetchval(
            """SELECT e.data FROM device_state s JOIN events e
                   ON e.shard = s.shard AND e.seq = s.message_seq AND e.stored_at = s.message_stored_at
                WHERE s.device_id = $1 AND e.device_id = $1 AND e.type = 'telemetry'""",
            device_id,
        )
        return int(data["telemetry"]["telemetries"]["n"])

    assert await sent((0, 1), (5, 2), (3, 3)) == 2
    assert await sent((4, 4)) == 2
    assert await sent((5, 5)) == 5


async def test_changes_that_say_how_a_device_stands_are_remembered_and_are_no_report(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """For receivers that begin anew; clients of `/v2` see what sensors told."""
    device_id = await acme.device()
    async with acme.pool.acquire() as connection:
        for version in (1, 2):
            await outbox.append(connection, [outbox.event(device_id, ConfigChanged(version=version), NOW)])
    await store_all(edge, redis_client)
    assert (await reported(edge, device_id))["configChanged"]["version"] == 2
    assert await project_view.reported(acme.pool, SHARDS, [device_id]) == {device_id: {}}


async def test_events_of_changes_belong_to_a_project(acme: Owner) -> None:
    """What happens to a device that nobody claimed is told to nobody, whoever forgets to look."""
    device_id = await acme.device(claimed=False)
    async with acme.pool.acquire() as connection:
        changed = ConfigChanged(version=1)
        await outbox.append(connection, [outbox.event(device_id, changed, NOW)])
        await outbox.append_to_each(connection, changed, NOW, "SELECT id AS device_id FROM devices")
    assert await acme.pool.fetchval("SELECT count(*) FROM event_outbox") == 0


@pytest.mark.parametrize("late_minutes", [1, 0])
async def test_late_measurements_are_marked(edge: Any, acme: Owner, redis_client: Redis, late_minutes: int) -> None:
    """A message that is older than one before it brings a backfilled value."""
    await map_telemetry(acme, n="temperature")
    device_id = await acme.device()
    await send(edge, device_id, telemetries={"n": 1}, timestamp=stamp(NOW))
    await send(edge, device_id, telemetries={"n": 2}, timestamp=stamp(NOW - timedelta(minutes=late_minutes)))
    await store_all(edge, redis_client)
    marks = [data["isBackfilled"] for kind, data in await log(edge) if kind == "temperature"]
    assert marks == [False, late_minutes > 0]


async def test_a_long_outbox_of_one_shard_does_not_hold_up_the_others(acme: Owner) -> None:
    """What one transaction takes is shared between the shards, and of each it is the oldest, in order."""
    devices: dict[int, UUID] = {}
    while len(devices) < SHARDS:
        device_id = await acme.device()
        devices[(await acme.row(device_id))["shard"]] = device_id
    await acme.pool.execute("DELETE FROM event_outbox")
    for _ in range(8):
        await publish(acme, devices[0], EventType.TOUCH)
    await publish(acme, devices[1], EventType.TOUCH)
    rows = Rows({0: 1, 1: 1}, NOW)
    async with acme.pool.acquire() as connection:
        before = await connection.fetch("SELECT ts FROM event_outbox WHERE shard = 0 ORDER BY id")
        await rows.take_outbox(connection, [0, 1], 5)
        await rows.write(connection)
        taken = await connection.fetch("SELECT shard, ts FROM events WHERE shard = ANY('{0,1}') ORDER BY seq")
    assert [row["ts"] for row in taken if row["shard"] == 0] == [row["ts"] for row in before[:4]]
    assert [row["shard"] for row in taken].count(1) == 1
    assert await acme.pool.fetchval("SELECT count(*) FROM event_outbox") == 4
