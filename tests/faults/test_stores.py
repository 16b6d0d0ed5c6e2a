"""Redis and Postgres that die, lose everything, fill up, or stand still, under load."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas import redis
from tests.faults.proxy import Proxy
from tests.faults.stack import Load, Stack, assert_stored_once, assert_told_of_command, send_command


async def start(stack: Stack, **settings: str) -> None:
    await stack.edge(**settings)
    await stack.worker()
    await stack.until_answers("/readyz")


@pytest.fixture
async def proxy(stack: Stack) -> AsyncIterator[Proxy]:
    """In front of the stack's Valkey."""
    made = Proxy(stack.valkey.port)
    await made.start()
    yield made
    await made.stop()


async def test_redis_killed_and_started_again_keeps_what_was_acknowledged(stack: Stack) -> None:
    """503 meanwhile; its append-only file has every acknowledged message."""
    await start(stack)
    command_id = await send_command(stack, stack.devices[0])
    async with Load(stack) as load:
        await load.until(300)
        stack.valkey.kill()
        await load.until_status(503)
        stack.valkey.start()
        await load.until(300)
    await assert_stored_once(stack, load)
    await assert_told_of_command(stack, stack.devices[0], command_id)


async def test_redis_emptied_tells_no_device_that_nothing_waits(stack: Stack) -> None:
    """503 until replies are rebuilt from Postgres; what was stored before is not stored again."""
    await start(stack)
    command_id = await send_command(stack, stack.devices[0])
    async with Load(stack) as load:
        await load.until(300)
    await assert_stored_once(stack, load)
    client = redis.connect(stack.redis_url)
    await client.flushall()
    await client.aclose()
    await assert_told_of_command(stack, stack.devices[0], command_id)
    async with Load(stack) as again:
        again.sent = load.sent
        await again.until(100)
    again.acknowledged |= load.acknowledged
    await assert_stored_once_among(stack, again)


async def assert_stored_once_among(stack: Stack, load: Load) -> None:
    """As `assert_stored_once`, beside the messages without a number that other steps sent."""
    async with asyncio.timeout(40):
        while True:
            found = await stack.query(
                """SELECT coalesce(array_agg((data->'telemetry'->'telemetries'->>'n')::int), '{}') FROM events
                    WHERE type = 'telemetry' AND data->'telemetry'->'telemetries'->>'n' IS NOT NULL"""
            )
            if load.acknowledged <= set(found):
                break
            await asyncio.sleep(0.05)
    assert len(found) == len(set(found))


async def test_ingest_goes_on_while_postgres_is_away(stack: Stack) -> None:
    """Into Redis; owners and registering devices are told to come back; then everything is stored."""
    await start(stack)
    device_id = stack.devices[0]
    async with Load(stack) as load:
        await load.until(200)
        stack.postgres.kill()
        await load.until(500)
        status, answer, headers = await stack.call("GET", f"/core/v1/organization/devices/{device_id}")
        assert (status, answer) == (503, {"error": "Postgres is not available, try again"})
        assert 1 <= int(headers["retry-after"]) <= 5
        stack.postgres.start()
        await load.until(200)
    assert set(load.statuses) == {201}
    await assert_stored_once(stack, load)


async def test_a_backlog_past_its_mark_sheds_telemetry_and_nothing_else(stack: Stack) -> None:
    """503 with Retry-After, a reason and the response map; recovery without a restart."""
    await start(stack, FLEETGATE_SHED_BACKLOG_ENTRIES="20")
    device_id = stack.devices[0]
    command_id = await send_command(stack, device_id)
    async with Load(stack) as load:
        await load.until(50)
        stack.postgres.kill()
        await load.until_status(503)
        async with asyncio.timeout(30):
            while True:
                status, answer, headers = await stack.call(
                    "POST", f"/v1/devices/{device_id}/telemetry", {"status": "online"}, stack.access_key(device_id)
                )
                if status == 503:
                    break
        assert answer["error"] == "Telemetry is not taken at the moment: the backlog is too long"
        assert (answer["success"], answer["command"]) == (False, True)
        assert 1 <= int(headers["retry-after"]) <= 5
        stack.postgres.start()
        await load.until(100)
    await assert_stored_once_among(stack, load)
    await assert_told_of_command(stack, device_id, command_id)


async def test_a_full_redis_refuses_telemetry_and_nothing_else(stack: Stack) -> None:
    """Commands, config and registration work; nothing accepted is thrown away; room again, telemetry again."""
    await start(stack)
    client: Any = redis.connect(stack.redis_url)
    async with Load(stack) as load:
        await load.until(200)
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used // 2)
        await load.until_status(503)
        device_id = stack.devices[0]
        command_id = await send_command(stack, device_id)
        key = stack.access_key(device_id)
        status, command, _ = await stack.call("GET", f"/v1/devices/{device_id}/command", None, key)
        assert (status, command["id"]) == (200, command_id)
        status, stored, _ = await stack.call("POST", f"/v1/devices/{device_id}/config", {"a": 1}, key)
        assert (status, stored) == (200, {"success": True, "version": 1})
        body = {"hardware_key": stack.hardware_key, "sn": "N1", "mac": "02:00:00:00:00:01", "firmware_version": "1.0.0"}
        status, _, _ = await stack.call("POST", "/v1/devices", body, "")
        assert status == 201
        await client.config_set("maxmemory", 0)
        await load.until(200)
    await client.aclose()
    await assert_stored_once(stack, load)
    # Its reply could not be written while Redis was full: a worker repeats that.
    await assert_told_of_command(stack, device_id, command_id, soon=True)


async def test_a_redis_whose_disk_is_full_accepts_nothing(stack: Stack, proxy: Proxy) -> None:
    """503 with the reason; nothing is acknowledged that is not in its log; then all goes on."""
    await stack.worker()
    stack.redis_url = f"redis://127.0.0.1:{proxy.port}/0"
    await stack.edge()
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(200)
        proxy.complaint = b"MISCONF Errors writing to the AOF file: No space left on device"
        await load.until_status(503)
        device_id = stack.devices[0]
        key = stack.access_key(device_id)
        status, answer, headers = await stack.call(
            "POST", f"/v1/devices/{device_id}/telemetry", {"status": "online"}, key
        )
        assert (status, answer["error"]) == (503, "The message store cannot write to its disk")
        assert (answer["success"], answer["command"]) == (False, False)  # what waits is told all the same
        assert 1 <= int(headers["retry-after"]) <= 5
        proxy.complaint = b""
        await load.until(200)
    await assert_stored_once(stack, load)


async def test_a_redis_that_stands_still_or_is_cut_off_is_noticed(stack: Stack, proxy: Proxy) -> None:
    """503 within the set time, on a new connection when it moves again; nothing that was acknowledged is lost."""
    await stack.worker()
    stack.redis_url = f"redis://127.0.0.1:{proxy.port}/0"
    await stack.edge(FLEETGATE_REDIS_TIMEOUT_S="0.5")
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(200)
        proxy.stalled.set()
        await load.until_status(503)
        proxy.stalled.clear()
        await load.until(200)
        proxy.cut()
        await load.until(200)
    await assert_stored_once(stack, load)


async def test_a_redis_whose_host_vanished_is_noticed_by_edges_and_workers(stack: Stack, proxy: Proxy) -> None:
    """No connection is closed, none is answered: all make new ones by themselves."""
    stack.redis_url = f"redis://127.0.0.1:{proxy.port}/0"
    await stack.worker()
    await stack.edge(FLEETGATE_REDIS_TIMEOUT_S="0.5")
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(200)
        proxy.forget()
        await load.until_status(503)
        await load.until(200)
    await assert_stored_once(stack, load)
