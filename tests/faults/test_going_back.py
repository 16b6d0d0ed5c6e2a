"""Stores that go back in time, or are succeeded by others that know less, under load."""

import re
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from webhooks import Project, until

from gateway.cli.local.embedded import EmbeddedValkey, free_port
from schemas import keys, postgres, redis
from tests.conftest import SHARDS
from tests.faults.proxy import Proxy
from tests.faults.stack import RECOVERY_S, Load, Stack, assert_stored_once, assert_told_of_command, send_command

DELIVERING = {"FLEETGATE_EGRESS_ALLOW": "127.0.0.0/8", "FLEETGATE_EGRESS_HTTP": "true"}
AHEAD_MS = 3_600_000
"""How far the clock of the first Redis is ahead of that of its successor."""


class Backup:
    """The files of the stack's Postgres as they were at one moment."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._files = stack.folder / "backup"

    def take(self) -> None:
        self._stack.postgres.kill()
        self._copy(self._stack.postgres.folder, self._files)
        self._stack.postgres.start()

    def restore(self) -> None:
        self._stack.postgres.kill()
        self._copy(self._files, self._stack.postgres.folder)
        self._stack.postgres.start()

    @staticmethod
    def _copy(source: Any, target: Any) -> None:
        subprocess.run(["rm", "-rf", str(target)], check=True)
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)


@pytest.fixture
async def delivered(stack: Stack) -> AsyncIterator[set[int]]:
    """The numbers of the messages that a webhook of the stack's project got."""
    numbers: set[int] = set()

    async def take(request: web.Request) -> web.Response:
        numbers.update(int(number) for number in re.findall(rb'"n":(\d+)', await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port := free_port())
    await site.start()
    pool = await postgres.create_pool(stack.postgres.dsn(), "faults", 1)
    organization_id, project_id = await pool.fetchrow("SELECT organization_id, id FROM projects") or (None, None)
    await Project(pool, organization_id, project_id).connector(f"http://127.0.0.1:{port}/hook")
    await pool.close()
    yield numbers
    await runner.cleanup()


async def test_postgres_restored_to_an_earlier_point_loses_nothing_that_is_kept(
    stack: Stack, delivered: set[int]
) -> None:
    """Acknowledged messages are stored again, later events delivered, and devices told of commands that are new."""
    await stack.edge()
    worker = await stack.worker(FLEETGATE_STREAM_KEEP_S="300", **DELIVERING)
    await stack.until_answers("/readyz")
    device_id, backup = stack.devices[0], Backup(stack)
    async with Load(stack) as load:
        await load.until(100)
        backup.take()
        await load.until(300)
        # What Redis knows of this device is newer than anything that will be said of it for a while.
        for _ in range(5):
            command_id = await send_command(stack, device_id)
            await assert_told_of_command(stack, device_id, command_id)
            await stack.call("DELETE", f"/core/v1/organization/devices/{device_id}/commands/{command_id}")
    await assert_stored_once_of(stack, load)
    numbers: dict[str, int] = await stack.query("SELECT json_object_agg(shard, next_seq) FROM shards")
    backup.restore()
    async with Load(stack) as later:
        later.sent = load.sent
        await later.until(200)
    later.acknowledged |= load.acknowledged
    await assert_stored_once_of(stack, later)
    await worker.logged("shard_went_back")
    await worker.logged("postgres_went_back")
    for shard, next_seq in numbers.items():
        given_twice = await stack.query(
            """SELECT count(*) FROM events
                WHERE shard = $1 AND seq < $2 AND (data->'telemetry'->'telemetries'->>'n')::int >= $3""",
            int(shard),
            next_seq,
            load.sent,
        )
        assert given_twice == 0
    command_id = await send_command(stack, device_id)
    await assert_told_of_command(stack, device_id, command_id, soon=True)

    async def all_delivered() -> bool:
        return later.acknowledged <= delivered

    await until(all_delivered, RECOVERY_S)


async def test_what_was_trimmed_is_said_to_be_lost(stack: Stack) -> None:
    """Without keeping, a Postgres that went back has lost messages, and the log says which."""
    await stack.edge()
    worker = await stack.worker()
    await stack.until_answers("/readyz")
    backup = Backup(stack)
    backup.take()
    async with Load(stack) as load:
        await load.until(200)
    await assert_stored_once(stack, load)
    backup.restore()
    line = await worker.logged("shard_went_back")
    assert re.search(r'"lost_until": ?"\d+-\d+"', line), line
    async with Load(stack) as later:
        later.sent = load.sent
        await later.until(100)
    await assert_stored_once(stack, later)


async def test_redis_succeeded_by_one_with_a_clock_behind_loses_nothing_it_acknowledged(stack: Stack) -> None:
    """Ids that lie below what is stored are moved up, whoever notices first, and a demoted primary is left at once."""
    successor = EmbeddedValkey(stack.folder / "successor", port=free_port())
    successor.start()
    front = Proxy(stack.valkey.port)
    await front.start()
    first, second = redis.connect(stack.valkey.url), redis.connect(successor.url)
    try:
        await second.execute_command("REPLICAOF", "127.0.0.1", str(stack.valkey.port))
        stack.redis_url = f"redis://127.0.0.1:{front.port}/0"
        await stack.edge()
        worker = await stack.worker()
        await stack.until_answers("/readyz")
        now_ms = (await first.time())[0] * 1000
        for shard in range(SHARDS):
            await first.execute_command("XSETID", keys.ingest(shard), f"{now_ms + AHEAD_MS}-0")

        async def replicated() -> bool:
            infos = [await first.info("replication"), await second.info("replication")]
            return bool(infos[1]["master_link_status"] == "up" and infos[0]["master_repl_offset"])

        await until(replicated, RECOVERY_S)
        # From here on the successor hears nothing more, and its ids lie an hour below the first one's.
        await second.execute_command("REPLICAOF", "NO", "ONE")
        for shard in range(SHARDS):
            await second.delete(keys.ingest(shard))
            await second.xgroup_create(keys.ingest(shard), "opened", mkstream=True)
        async with Load(stack) as load:
            await load.until(200)
        # What the first one alone had acknowledged would be lost with it.
        await assert_stored_once(stack, load)
        front.lead_to(successor.port)
        await first.execute_command("REPLICAOF", "127.0.0.1", str(successor.port))
        async with Load(stack) as later:
            later.sent = load.sent
            await later.until(300)
        later.acknowledged |= load.acknowledged
        await assert_stored_once(stack, later)
        assert re.search(r'"entries_moved": ?[1-9]', worker.log.read_text())
    finally:
        await first.aclose()
        await second.aclose()
        await front.stop()
        successor.stop()


async def assert_stored(stack: Stack, load: Load) -> None:
    """All that was acknowledged by now comes to be stored."""
    acknowledged = set(load.acknowledged)

    async def stored() -> bool:
        return acknowledged <= set(
            await stack.query(
                "SELECT array_agg((data->'telemetry'->'telemetries'->>'n')::int) FROM events WHERE type = 'telemetry'"
            )
            or ()
        )

    await until(stored, RECOVERY_S)


async def assert_stored_once_of(stack: Stack, load: Load) -> None:
    """Every acknowledged message is stored, none twice, beside those without a number."""
    await assert_stored(stack, load)
    found = await stack.query(
        """SELECT array_agg((data->'telemetry'->'telemetries'->>'n')::int) FROM events
            WHERE type = 'telemetry' AND data->'telemetry'->'telemetries'->>'n' IS NOT NULL"""
    )
    assert len(found) == len(set(found))


async def test_a_device_that_registered_in_the_span_that_is_gone_registers_again(stack: Stack) -> None:
    """Its key is turned away once Postgres is found not to know it."""
    await stack.edge()
    await stack.worker()
    await stack.until_answers("/readyz")
    backup = Backup(stack)
    backup.take()
    unit = {"hardware_key": stack.hardware_key, "sn": "N1", "mac": "02:00:00:00:00:01", "firmware_version": "1.0.0"}
    status, registered, _ = await stack.call("POST", "/v1/devices", unit, "")
    assert status == 201, registered
    heartbeat = await stack.query("SELECT heartbeat FROM installation")

    async def beats() -> bool:
        return await stack.query("SELECT heartbeat FROM installation") > heartbeat + 1

    await until(beats, RECOVERY_S)
    backup.restore()
    path = f"/v1/devices/{registered['id']}/telemetry"

    async def turned_away() -> bool:
        status, _, _ = await stack.call("POST", path, {"status": "online"}, registered["access_key"])
        return status == 401

    await until(turned_away, RECOVERY_S)
    status, again, _ = await stack.call("POST", "/v1/devices", unit, "")
    assert status == 201, again


async def test_a_2xx_waits_for_replicas_where_it_is_told_to(stack: Stack) -> None:
    """With one replica asked for, none means 503, and a device hears 2xx again when there is one."""
    replica = EmbeddedValkey(stack.folder / "replica", port=free_port())
    replica.start(replicaof=f"127.0.0.1 {stack.valkey.port}")
    try:
        await stack.edge(FLEETGATE_REDIS_REPLICAS_MIN="1")
        await stack.worker()
        await stack.until_answers("/readyz")
        device_id = stack.devices[0]
        path, key = f"/v1/devices/{device_id}/telemetry", stack.access_key(device_id)

        async def answered(wanted: int) -> bool:
            status, answer, _ = await stack.call("POST", path, {"status": "online"}, key)
            assert status == 201 or answer["error"] == "The message store's replicas do not follow"
            return status == wanted

        await until(lambda: answered(201), RECOVERY_S)
        replica.stop()
        await until(lambda: answered(503), RECOVERY_S)
        replica.start()
        await until(lambda: answered(201), RECOVERY_S)
    finally:
        replica.stop()
