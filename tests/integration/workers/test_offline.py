"""Devices that fall silent, and come back."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flushing import flusher_of, store_all
from owners import Owner, outbox
from prometheus_client import CollectorRegistry
from waiting import waits_for_a_lock
from webhooks import until

from gateway.background import Background
from gateway.ingest.beats import Beats
from schemas import entries, ids, keys, presence
from schemas import outbox as events_out
from schemas.metrics import Metrics
from schemas.outcomes import Refused
from schemas.postgres import Connection, PostgresAway
from schemas.redis import Redis
from workers import offline as sweeping
from workers.offline import GRACE, OfflineSweep

NOW = datetime.now(UTC)
THRESHOLD = timedelta(seconds=300)


@pytest.fixture
async def sweep(edge: Any, redis_client: Redis) -> OfflineSweep:
    """A sweep that has been there for long enough to judge."""
    made = OfflineSweep(edge.services.postgres, redis_client, Metrics(CollectorRegistry()), 4)
    assert await made.sweep(NOW - GRACE) == 0
    return made


async def seen(acme: Owner, device_id: Any, at: datetime) -> None:
    await acme.seen(device_id)
    await acme.pool.execute("UPDATE device_state SET last_seen_at = $2 WHERE device_id = $1", device_id, at)


async def offline(acme: Owner, device_id: Any) -> bool:
    found: bool = await acme.pool.fetchval("SELECT offline FROM device_state WHERE device_id = $1", device_id)
    return found


async def test_a_device_goes_offline_once_past_its_models_threshold(acme: Owner, sweep: OfflineSweep) -> None:
    """To the second; with one incident and two events, however often and by however many it is swept."""
    silent, heard = await acme.device(), await acme.device()
    await seen(acme, silent, NOW - THRESHOLD - timedelta(seconds=1))
    await seen(acme, heard, NOW - THRESHOLD + timedelta(seconds=1))
    assert await sweep.sweep(NOW) == 1
    assert (await offline(acme, silent), await offline(acme, heard)) == (True, False)
    assert await sweep.sweep(NOW) == 0
    assert await outbox(acme.pool) == [("statusChanged", silent), ("incidentOpened", silent)]
    incident = await acme.pool.fetchrow("SELECT device_id, issue, closed_at FROM incidents")
    assert tuple(incident) == (silent, "offline", None)
    shown = await acme.call("GET", f"/devices/{silent}")
    assert shown["effective_status"] == "offline"


async def heard_of(edge: Any, redis_client: Redis, acme: Owner, device_id: Any) -> None:
    """A message of a device, stored."""
    shard = (await acme.row(device_id))["shard"]
    body = entries.pack(int(NOW.timestamp() * 1e6), [str(device_id).encode(), b"00", b'{"status":"online"}'])
    await redis_client.xadd(keys.ingest(shard), {entries.FIELD: body})
    flusher = flusher_of(edge, redis_client)
    await flusher.open(shard)
    assert await flusher.flush() == 1


async def test_the_next_message_brings_it_back(
    edge: Any, acme: Owner, sweep: OfflineSweep, redis_client: Redis
) -> None:
    """The flusher closes the incident and tells of both, in the transaction that stores the message."""
    device_id = await acme.device()
    await seen(acme, device_id, NOW - timedelta(hours=1))
    assert await sweep.sweep(NOW) == 1
    await acme.pool.execute("DELETE FROM event_outbox")
    await heard_of(edge, redis_client, acme, device_id)
    assert await offline(acme, device_id) is False
    assert await acme.pool.fetchval("SELECT closed_at IS NOT NULL FROM incidents") is True
    rows = await acme.pool.fetch("SELECT type, data FROM event_outbox ORDER BY id")
    if not rows:  # the same flush may have moved them on
        rows = await acme.pool.fetch("SELECT type, data FROM events WHERE type <> 'telemetry' ORDER BY seq")
    assert [(row["type"], row["data"][row["type"]]) for row in rows] == [
        ("statusChanged", {"updateTime": rows[0]["data"]["statusChanged"]["updateTime"], "offline": False}),
        (
            "incidentClosed",
            {
                "updateTime": rows[1]["data"]["incidentClosed"]["updateTime"],
                "incidentId": str(await acme.pool.fetchval("SELECT id FROM incidents")),
                "kind": "rule",
                "issue": "offline",
            },
        ),
    ]


async def test_what_somebody_else_opened_of_that_issue_stays_open(
    edge: Any, acme: Owner, sweep: OfflineSweep, redis_client: Redis
) -> None:
    """The sweep opens no second one, and the next message closes only what the sweep opened."""
    device_id = await acme.device()
    await seen(acme, device_id, NOW - timedelta(hours=1))
    told = {"device_id": str(device_id), "title": "Unplugged", "issue": "offline"}
    opened = (await acme.call("POST", "/incidents", told))["id"]
    assert await sweep.sweep(NOW) == 1
    await heard_of(edge, redis_client, acme, device_id)
    assert await offline(acme, device_id) is False
    found = await acme.pool.fetch("SELECT id::text, closed_at FROM incidents")
    assert [tuple(row) for row in found] == [(opened, None)]


async def test_no_incident_is_opened_of_a_suspended_device_or_in_a_space_in_maintenance(
    acme: Owner, sweep: OfflineSweep
) -> None:
    """Suspension: they are offline all the same, and that is told; there is no incident to be told of."""
    hangar = await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": "H", "maintenance": True})
    suspended, serviced = await acme.device(incidents_suspended=True), await acme.device(space_id=UUID(hangar["id"]))
    for device_id in (suspended, serviced):
        await seen(acme, device_id, NOW - timedelta(hours=1))
    assert await sweep.sweep(NOW) == 2
    assert await acme.pool.fetchval("SELECT count(*) FROM incidents") == 0
    assert {told for told, _ in await outbox(acme.pool)} == {"statusChanged"}


async def test_a_worker_that_dies_while_it_opens_incidents_leaves_nothing_half_done(
    acme: Owner, sweep: OfflineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between incident and event: neither is there, and the next sweep makes each once."""
    device_id = await acme.device()
    await seen(acme, device_id, NOW - timedelta(hours=1))

    async def die(connection: Connection, _: Any) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with monkeypatch.context() as patched:
        patched.setattr(events_out, "append", die)
        with pytest.raises(PostgresAway):
            await sweep.sweep(NOW)
    assert await acme.pool.fetchval("SELECT count(*) FROM incidents") == 0
    assert await offline(acme, device_id) is False
    assert await sweep.sweep(NOW) == 1
    assert await outbox(acme.pool) == [("statusChanged", device_id), ("incidentOpened", device_id)]
    assert await acme.pool.fetchval("SELECT count(*) FROM incidents") == 1


async def test_while_a_command_runs_its_device_is_not_marked_offline(acme: Owner, sweep: OfflineSweep) -> None:
    """While a command with a timeout runs, the device is not marked offline; once it timed out silence counts."""
    updating, asked = await acme.device(), await acme.device()
    for device_id in (updating, asked):
        await seen(acme, device_id, NOW - timedelta(hours=1))
        await acme.call("POST", f"/devices/{device_id}/commands", {"command": "reboot"})
    await acme.pool.execute("UPDATE commands SET delivered_at = $2 WHERE device_id = $1", updating, NOW)
    assert await sweep.sweep(NOW) == 1  # the other one was never handed its command
    assert [await offline(acme, device_id) for device_id in (updating, asked)] == [False, True]
    assert await sweep.sweep(NOW + timedelta(seconds=599)) == 0
    assert await sweep.sweep(NOW + timedelta(seconds=601)) == 1


async def test_a_backlog_makes_nobody_offline(acme: Owner, sweep: OfflineSweep, redis_client: Redis) -> None:
    """While messages wait, silence is measured up to the oldest of them, not up to now."""
    device_id = await acme.device()
    await seen(acme, device_id, NOW - THRESHOLD)
    shard = (await acme.row(device_id))["shard"]
    waiting_since = NOW - timedelta(seconds=10)
    await redis_client.xadd(keys.ingest(shard), {"b": b""}, id=f"{int(waiting_since.timestamp() * 1000)}-0")
    assert await sweep.sweep(NOW) == 0
    assert await sweep.sweep(NOW + timedelta(hours=1)) == 0
    await redis_client.xtrim(keys.ingest(shard), maxlen=0, approximate=False)
    assert await sweep.sweep(NOW + timedelta(seconds=1)) == 1


async def test_after_an_outage_of_the_store_devices_get_time_to_be_heard(
    acme: Owner, sweep: OfflineSweep, redis_client: Redis
) -> None:
    """They could not be heard while the shard was gone; that is not their silence."""
    device_id = await acme.device()
    await seen(acme, device_id, NOW - timedelta(hours=1))
    shard = (await acme.row(device_id))["shard"]
    await redis_client.delete(keys.ingest(shard))
    assert await sweep.sweep(NOW) == 0
    await redis_client.xadd(keys.ingest(shard), {"b": b""})
    await redis_client.xtrim(keys.ingest(shard), maxlen=0, approximate=False)
    assert await sweep.sweep(NOW + timedelta(seconds=1)) == 0
    assert await sweep.sweep(NOW + THRESHOLD) == 0
    assert await sweep.sweep(NOW + timedelta(seconds=1) + THRESHOLD) == 1


async def test_two_sweeps_at_once_mark_a_device_once(acme: Owner, sweep: OfflineSweep, redis_client: Redis) -> None:
    """The second waits for the shard and finds nothing left."""
    device_id = await acme.device()
    await seen(acme, device_id, NOW - timedelta(hours=1))
    shard = (await acme.row(device_id))["shard"]
    async with acme.pool.acquire() as first, acme.pool.acquire() as second:
        both = (sweep._mark(connection, shard, {device_id: NOW}, NOW) for connection in (first, second))
        assert sorted(await asyncio.gather(*both)) == [0, 1]


async def test_each_model_has_its_own_threshold_and_deleted_devices_are_left_in_peace(
    acme: Owner, sweep: OfflineSweep
) -> None:
    """A shorter threshold of another model makes nobody offline; of a deleted device nothing is told."""
    other = ids.new_id()
    await acme.pool.execute(
        """INSERT INTO device_models (id, organization_id, vendor, name, authentication, offline_threshold_s)
           SELECT $1, organization_id, vendor, 'Hasty', authentication, 10 FROM device_models WHERE id = $2""",
        other,
        acme.model_id,
    )
    patient, hasty, deleted = await acme.device(), await acme.device(), await acme.device()
    await acme.pool.execute("UPDATE devices SET model_id = $2 WHERE id = $1", hasty, other)
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", deleted)
    await acme.pool.execute("DELETE FROM event_outbox")
    for device_id in (patient, hasty):
        await seen(acme, device_id, NOW - timedelta(seconds=60))
    await seen(acme, deleted, NOW - timedelta(hours=1))
    assert await sweep.sweep(NOW) == 1
    assert [await offline(acme, device_id) for device_id in (patient, hasty, deleted)] == [False, True, True]
    told = await acme.pool.fetch("SELECT DISTINCT device_id FROM event_outbox")
    assert [row["device_id"] for row in told] == [hasty]


async def test_a_device_of_a_model_made_during_the_sweep_is_left_for_the_next(
    acme: Owner, sweep: OfflineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not end the sweep, which still marks the others."""
    moved, silent = await acme.device(), await acme.device()
    for device_id in (moved, silent):
        await seen(acme, device_id, NOW - timedelta(hours=1))
    read_thresholds = sweeping._thresholds

    async def then_a_model_is_made(connection: Connection) -> dict[UUID, timedelta]:
        read = await read_thresholds(connection)
        await acme.pool.execute(
            """WITH made AS (
                   INSERT INTO device_models (id, organization_id, vendor, name, authentication)
                   SELECT $1, organization_id, vendor, 'Late', authentication FROM device_models WHERE id = $2
                   RETURNING id)
               UPDATE devices SET model_id = made.id FROM made WHERE devices.id = $3""",
            ids.new_id(),
            acme.model_id,
            moved,
        )
        return read

    with monkeypatch.context() as patched:
        patched.setattr(sweeping, "_thresholds", then_a_model_is_made)
        assert await sweep.sweep(NOW) == 1
    assert [await offline(acme, device_id) for device_id in (moved, silent)] == [False, True]
    assert await sweep.sweep(NOW) == 1


@pytest.fixture
async def shard(acme: Owner) -> int:
    """That of a device which is silent for an hour."""
    device_id = await acme.device()
    await seen(acme, device_id, NOW - timedelta(hours=1))
    found: int = (await acme.row(device_id))["shard"]
    return found


async def told(
    redis_client: Redis, shard: int, *, beat_s: float = 0, since_s: float = 10_000, ahead_s: float = 0
) -> None:
    """An edge told that it takes telemetry, so many seconds ago."""
    seconds, microseconds = await redis_client.time()
    now = seconds * 1000 + microseconds // 1000
    value = f"{now - int(beat_s * 1000)} {now - int(since_s * 1000)} {int(ahead_s * 1000)}"
    await redis_client.hset(keys.edges(shard), mapping={"!": "1", "edge": value})


async def test_a_frozen_edge_makes_nobody_offline(
    acme: Owner, sweep: OfflineSweep, redis_client: Redis, shard: int
) -> None:
    """Nor does one that came back a moment ago: devices first get one threshold to be heard, however seldom it is
    looked."""
    await told(redis_client, shard, beat_s=140)
    assert await sweep.sweep(NOW) == 0
    assert await sweep.sweep(NOW + THRESHOLD) == 0
    await presence.tell(redis_client, [shard], "edge", time.time_ns() // 1_000_000)
    fresh = OfflineSweep(acme.pool, redis_client, Metrics(CollectorRegistry()), 4)
    for when in (NOW - GRACE, NOW):
        assert await fresh.sweep(when) == 0
    await told(redis_client, shard, since_s=THRESHOLD.total_seconds() - 5)
    assert await fresh.sweep(NOW) == 0
    await told(redis_client, shard, since_s=THRESHOLD.total_seconds() + 1)
    assert await fresh.sweep(NOW) == 0, "the device is looked at when the threshold is over"
    assert await fresh.sweep(NOW + THRESHOLD) == 1


async def test_an_edge_that_begins_at_once_in_the_place_of_another_leaves_no_gap(
    sweep: OfflineSweep, redis_client: Redis, shard: int
) -> None:
    """A deployment is no outage, were it of the only edge; it inherits a gap that there was."""
    await redis_client.delete(keys.edges(shard))
    await presence.tell(redis_client, [shard], "old", time.time_ns() // 1_000_000)
    await presence.leave(redis_client, [shard], "old")
    await presence.tell(redis_client, [shard], "new", time.time_ns() // 1_000_000)
    assert (await presence.heard(redis_client, [shard]))[shard].since_ms == 0
    assert await sweep.sweep(NOW) == 1
    await told(redis_client, shard, beat_s=presence.LATE_S + 1)
    await presence.tell(redis_client, [shard], "edge", time.time_ns() // 1_000_000)
    since = (await presence.heard(redis_client, [shard]))[shard].since_ms
    assert since
    await presence.leave(redis_client, [shard], "edge")
    await presence.leave(redis_client, [shard], "new")
    await presence.tell(redis_client, [shard], "newer", time.time_ns() // 1_000_000)
    assert (await presence.heard(redis_client, [shard]))[shard].since_ms == since


async def test_an_edge_that_is_gone_for_good_is_not_waited_for(
    sweep: OfflineSweep, redis_client: Redis, shard: int
) -> None:
    """As long as there is another one for devices to call; its name is forgotten."""
    await presence.tell(redis_client, [shard], "other", time.time_ns() // 1_000_000)
    await told(redis_client, shard, beat_s=presence.GONE_S + 1)
    assert await sweep.sweep(NOW) == 1
    await presence.tell(redis_client, [shard], "other", time.time_ns() // 1_000_000)
    assert b"edge" not in await redis_client.hkeys(keys.edges(shard))


async def test_when_all_edges_have_ended_nobody_goes_offline(
    sweep: OfflineSweep, redis_client: Redis, shard: int
) -> None:
    """Devices have nobody to call; the edge that is started again is not blamed on them either."""
    await told(redis_client, shard)
    for name in await redis_client.hkeys(keys.edges(shard)):
        if name != b"!":
            await presence.leave(redis_client, [shard], name.decode())
    assert await sweep.sweep(NOW) == 0
    await presence.tell(redis_client, [shard], "new", time.time_ns() // 1_000_000)
    assert await sweep.sweep(NOW + THRESHOLD) == 0


async def test_silence_is_measured_by_the_clocks_that_date_messages(
    acme: Owner, sweep: OfflineSweep, redis_client: Redis, shard: int
) -> None:
    """Neither the worker's clock nor a jump of an edge's makes anybody offline."""
    await told(redis_client, shard, ahead_s=-3_600)
    await acme.pool.execute("UPDATE device_state SET last_seen_at = now() - interval '3700 s'")
    sweep._begun = None
    assert await sweep._judged(None) == {}
    sweep._begun = -GRACE.total_seconds()
    until, heard_for = (await sweep._judged(None))[shard]
    assert heard_for >= timedelta(seconds=9_999)
    assert abs(until - datetime.now(UTC) + timedelta(hours=1)) < timedelta(seconds=10)
    await presence.tell(redis_client, [shard], "edge", time.time_ns() // 1_000_000)  # its clock was set
    assert (await sweep._judged(None))[shard].heard_for < timedelta(seconds=10)


async def test_an_edge_tells_of_the_shards_that_it_takes(edge: Any, redis_client: Redis) -> None:
    """Of none that it sheds; when it ends it leaves no name behind."""
    services = edge.services
    await redis_client.delete(*map(keys.edges, range(4)))
    services.ingest.shed[2] = Refused.SHED_MEMORY
    beats = Beats(redis_client, services.ingest, 4)
    await beats.tell()
    assert [len(await redis_client.hgetall(keys.edges(shard))) for shard in range(4)] == [2, 2, 0, 2]
    background = Background(lambda: None)
    background.start("beats", beats.run())
    await asyncio.sleep(0)
    await background.stop()
    assert [await redis_client.hkeys(keys.edges(shard)) for shard in range(4)] == [[b"!"], [b"!"], [], [b"!"]]


async def test_others_events_pass_while_many_devices_go_offline(
    acme: Owner, sweep: OfflineSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard whose outbox is full is marked no further until the flusher took some of it."""
    monkeypatch.setattr(sweeping, "OUTBOX_MAX", 10)
    monkeypatch.setattr(sweeping, "DEVICES_MAX", 4)
    monkeypatch.setattr(sweeping, "OUTBOX_WAIT_S", 0.2)
    for _ in range(60):
        await seen(acme, await acme.device(), NOW - timedelta(hours=1))
    marked = 0
    while marked < 60:
        found = await sweep.sweep(NOW)
        assert 0 < found <= 4 * 10
        deep = await acme.pool.fetch("SELECT count(*) AS n FROM event_outbox GROUP BY shard")
        assert max(row["n"] for row in deep) < 10 + 2 * 4
        await acme.pool.execute("DELETE FROM event_outbox")
        marked += found
    assert marked == 60


async def test_a_sweep_looks_only_at_devices_that_may_have_been_silent_for_too_long(
    edge: Any, acme: Owner, sweep: OfflineSweep, redis_client: Redis
) -> None:
    """The flusher puts the look off while a device is heard, and rarely, so that most writes touch no index."""
    device_id = await acme.device()
    checks = []
    for minute in (0, 1, 2, 3, 5):
        received = NOW + timedelta(minutes=minute)
        body = entries.pack(int(received.timestamp() * 1e6), [str(device_id).encode(), b"00", b'{"status":"online"}'])
        await redis_client.xadd(keys.ingest((await acme.row(device_id))["shard"]), {entries.FIELD: body})
        await store_all(edge, redis_client)
        checks.append(await acme.pool.fetchval("SELECT check_at FROM device_state") - NOW)
    assert checks == [THRESHOLD] * 4 + [THRESHOLD + timedelta(minutes=5)]
    assert await sweep.sweep(NOW + timedelta(minutes=9)) == 0
    plan = await acme.pool.fetch(
        """EXPLAIN SELECT device_id FROM device_state
            WHERE shard = 1 AND NOT offline AND check_at <= now() AND (check_at, device_id) > ($1, $2)
            ORDER BY check_at, device_id LIMIT 5""",
        *sweeping._START,
    )
    assert "device_state_check" in str(plan)
    assert "Sort" not in str(plan)
    assert await sweep.sweep(NOW + timedelta(minutes=10, seconds=1)) == 1


async def test_the_sweep_waits_for_a_flusher_that_holds_the_shard(acme: Owner, sweep: OfflineSweep) -> None:
    """A message that is being stored meanwhile counts: whoever sent it is not marked."""
    device_id = await acme.device()
    await seen(acme, device_id, NOW - timedelta(hours=1))
    shard = (await acme.row(device_id))["shard"]
    async with acme.pool.acquire() as flushing:
        transaction = flushing.transaction()
        await transaction.start()
        await flushing.execute("SELECT FROM shards WHERE shard = $1 FOR NO KEY UPDATE", shard)
        sweeping = asyncio.create_task(sweep.sweep(NOW))
        await until(lambda: sweeping.done() or waits_for_a_lock(acme.pool), 10)
        await flushing.execute("UPDATE device_state SET last_seen_at = $2 WHERE device_id = $1", device_id, NOW)
        await transaction.commit()
    assert await sweeping == 0
    assert await offline(acme, device_id) is False
