"""What lists and counts find of devices follows the truth, whoever changed it and whoever died."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from flushing import send, store_all
from owners import NOW, Owner
from waiting import waits_for_a_lock
from webhooks import until

from gateway.stores.tenants import spaces
from schemas.redis import Redis
from workers import standings
from workers.standings import Standings


async def kept(acme: Owner) -> dict[UUID, str]:
    """How devices are seen, once that is worked out."""
    await acme.settled()
    return {
        row["device_id"]: row["status"]
        for row in await acme.pool.fetch("SELECT device_id, status FROM device_standings")
    }


async def labels(acme: Owner, device_id: UUID) -> dict[str, str]:
    rows = await acme.pool.fetch("SELECT key, value FROM device_labels WHERE device_id = $1", device_id)
    return {row["key"]: row["value"] for row in rows}


async def test_messages_change_how_a_device_is_seen(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """The first one, one after a silence, and what it says of itself; others leave nothing to do."""
    device_id = await acme.device()
    assert await kept(acme) == {device_id: "never_seen"}
    for said, seen in (("online", "ok"), ("error", "error"), ("offline", "offline"), ("online", "ok")):
        await send(edge, device_id, status=said)
        await store_all(edge, redis_client)
        assert await kept(acme) == {device_id: seen}
    await acme.pool.execute("UPDATE device_state SET offline = true")
    await send(edge, device_id, status="online")
    await store_all(edge, redis_client)
    assert await acme.pool.fetchval("SELECT count(*) FROM standings_due") == 1
    await kept(acme)
    await send(edge, device_id, status="online", telemetries={"n": 1})
    await store_all(edge, redis_client)
    assert await acme.pool.fetchval("SELECT count(*) FROM standings_due") == 0


async def test_incidents_change_how_a_device_is_seen(acme: Owner) -> None:
    """When they are opened, closed, given another priority; the one of the offline sweep is none of these."""
    device_id = await acme.device()
    await acme.seen(device_id)
    assert await kept(acme) == {device_id: "ok"}
    await acme.incident(device_id, 3, "offline", kind="rule")
    assert await acme.pool.fetchval("SELECT count(*) FROM standings_due") == 0
    leak = await acme.incident(device_id, 4)
    assert await kept(acme) == {device_id: "warning"}
    await acme.pool.execute("UPDATE incidents SET priority = 1 WHERE id = $1", leak)
    assert await kept(acme) == {device_id: "error"}
    await acme.pool.execute("UPDATE incidents SET closed_at = now() WHERE id = $1", leak)
    assert await kept(acme) == {device_id: "ok"}
    again = await acme.incident(device_id, 1)
    await kept(acme)
    await acme.pool.execute("DELETE FROM incidents WHERE id = $1", again)
    assert await kept(acme) == {device_id: "ok"}


async def test_children_are_seen_as_disconnected_while_their_parent_is_offline(acme: Owner) -> None:
    """They follow when it comes and goes, and when they get another parent."""
    parent, other = await acme.device(), await acme.device()
    child = await acme.device(parent_id=parent)
    for device_id in (parent, other, child):
        await acme.seen(device_id)
    assert set((await kept(acme)).values()) == {"ok"}
    await acme.pool.execute("UPDATE device_state SET offline = true WHERE device_id = $1", parent)
    await acme.pool.execute("INSERT INTO standings_due (device_id) VALUES ($1)", parent)
    assert (await kept(acme))[child] == "disconnected"
    await acme.pool.execute("UPDATE devices SET parent_id = $2 WHERE id = $1", child, other)
    assert (await kept(acme))[child] == "ok"


async def test_a_connector_that_fails_disconnects_all_its_devices_step_by_step(acme: Owner, monkeypatch: Any) -> None:
    """However many; those that the vendor lists no more stay so, and what is left out comes back."""
    monkeypatch.setattr(standings, "DEVICES_MAX", 1)
    devices = [await acme.device() for _ in range(3)]
    await acme.pool.execute(
        """INSERT INTO cloud_connectors (id, organization_id, project_id, space_id, provider, name, status)
           VALUES ($1, $2, $3, $4, 'x', 'X', 'Active')""",
        "c" * 20,
        acme.organization_id,
        acme.project_id,
        acme.space_id,
    )
    await acme.pool.execute(
        """INSERT INTO cloud_devices (connector_id, vendor_id, device_id, name)
           SELECT $2, id::text, id, 'D' FROM unnest($1::uuid[]) id""",
        devices,
        "c" * 20,
    )
    for device_id in devices:
        await acme.seen(device_id)
    assert set((await kept(acme)).values()) == {"ok"}
    await acme.pool.execute("UPDATE cloud_connectors SET status = 'Error'")
    assert set((await kept(acme)).values()) == {"disconnected"}
    await acme.pool.execute("UPDATE cloud_devices SET excluded = 'missing' WHERE device_id = $1", devices[0])
    await acme.pool.execute("UPDATE cloud_connectors SET status = 'Active'")
    assert [(await kept(acme))[one] for one in devices] == ["disconnected", "ok", "ok"]
    await acme.pool.execute("DELETE FROM cloud_connectors")
    assert set((await kept(acme)).values()) == {"ok"}


async def test_only_devices_that_somebody_owns_have_a_standing(acme: Owner) -> None:
    """It comes with the owner, moves with the device, and goes with it; labels likewise."""
    device_id = await acme.device(claimed=False, labels={"site": "Oslo"})
    assert (await kept(acme), await labels(acme, device_id)) == ({}, {})
    place = acme.organization_id, acme.project_id, acme.space_id
    await acme.pool.execute(
        "UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4, claimed_at = now() WHERE id = $1",
        device_id,
        *place,
    )
    assert await kept(acme) == {device_id: "never_seen"}
    assert await labels(acme, device_id) == {"site": "Oslo"}
    await acme.pool.execute("""UPDATE devices SET labels = '{"site": "Bergen", "floor": "2"}'""")
    assert await labels(acme, device_id) == {"site": "Bergen", "floor": "2"}
    async with acme.pool.acquire() as connection:
        room = await spaces.create(connection, acme.organization_id, acme.project_id, "Room")
    await acme.pool.execute("UPDATE devices SET space_id = $1", room.id)
    await kept(acme)
    assert await acme.pool.fetchval("SELECT space_id FROM device_standings") == room.id
    await acme.pool.execute("UPDATE devices SET deleted_at = now()")
    assert (await kept(acme), await labels(acme, device_id)) == ({}, {})


async def test_an_older_truth_never_overwrites_a_newer_one(acme: Owner) -> None:
    """While one worker is at it the others leave all as it is; what changes meanwhile is due still."""
    device_id = await acme.device()
    async with acme.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", standings.LOCK)
        assert await Standings(acme.pool).step() is False
        assert await acme.pool.fetchval("SELECT count(*) FROM device_standings") == 0
    async with acme.pool.acquire() as other:
        change = other.transaction()
        await change.start()
        await other.execute(
            "INSERT INTO incidents (id, device_id, issue, title) VALUES ($1, $1, 'leak', 'L')", device_id
        )
        assert await kept(acme) == {device_id: "never_seen"}
        await acme.seen(device_id)
        assert await kept(acme) == {device_id: "ok"}
        await change.commit()
    assert await kept(acme) == {device_id: "error"}


async def test_a_worker_that_dies_leaves_everything_due(acme: Owner, monkeypatch: Any) -> None:
    """The next one does it; nothing was done by halves."""
    device_id = await acme.device()

    async def die(*_: Any) -> None:
        raise SystemError

    with monkeypatch.context() as dying:
        dying.setattr(standings, "read_signs", die)
        for _ in range(2):
            try:
                await acme.settled()
            except SystemError:
                continue
    assert await acme.pool.fetchval("SELECT count(*) FROM standings_due") == 1
    assert await kept(acme) == {device_id: "never_seen"}


async def test_what_was_changed_without_a_word_comes_right_by_the_repair(acme: Owner, monkeypatch: Any) -> None:
    """It goes through all devices, some at a time, and begins anew after the last."""
    monkeypatch.setattr(standings, "DEVICES_MAX", 2)
    devices = [await acme.device() for _ in range(3)]
    await kept(acme)
    repairing = Standings(acme.pool)
    await acme.pool.execute("DELETE FROM device_standings WHERE device_id = $1", devices[2])
    await acme.pool.execute("UPDATE device_standings SET status = 'ok'")
    for _ in range(2):
        await repairing.repair()
    assert await kept(acme) == dict.fromkeys(devices, "never_seen")
    await acme.pool.execute("UPDATE device_standings SET status = 'ok'")
    for _ in range(2):
        await repairing.repair()
    assert await kept(acme) == dict.fromkeys(devices, "never_seen")


async def test_when_a_device_was_seen_is_kept_to_the_hour_and_never_too_late(acme: Owner) -> None:
    """So a list of what is silent finds all of it, and no message pays for that."""
    device_id = await acme.device()
    await acme.seen(device_id)
    repairing = Standings(acme.pool)

    async def seen_at(minutes: int) -> Any:
        await acme.pool.execute("UPDATE device_state SET last_seen_at = $1", NOW + timedelta(minutes=minutes))
        await repairing.repair()
        return await acme.pool.fetchval("SELECT seen_at FROM device_standings")

    assert [(await seen_at(minutes) - NOW).total_seconds() / 60 for minutes in (0, 59, 61, 30)] == [0, 0, 61, 30]


async def test_labels_from_before_are_found_and_none_that_is_changed_meanwhile(acme: Owner) -> None:
    """All devices are gone through once, each held while its labels are copied."""
    first, second = await acme.device(labels={"site": "Oslo"}), await acme.device(labels={"site": "Bergen"})
    await acme.settled()
    await acme.pool.execute("DELETE FROM device_labels")
    await acme.pool.execute("INSERT INTO standings_due DEFAULT VALUES")
    async with acme.pool.acquire() as connection:
        change = connection.transaction()
        await change.start()
        await connection.execute("UPDATE devices SET labels = '{}' WHERE id = $1", first)
        copying = asyncio.create_task(acme.settled())
        await until(lambda: waits_for_a_lock(acme.pool))
        await change.commit()
    await copying
    assert (await labels(acme, first), await labels(acme, second)) == ({}, {"site": "Bergen"})
