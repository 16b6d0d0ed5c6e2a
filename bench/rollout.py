"""A firmware rollout to a whole fleet in three waves, while telemetry comes in.

A worker of the role `rollouts` offers, an edge takes what the generator sends, another worker stores it. Devices are
simulated: as soon as a wave has been told, all of them report the new version. Held against limits: what ingest loses
while the largest wave is told in the share of time that is the default, and how long a command of a neighbour takes
meanwhile, from its request until it stands in the device's next answer. Told: replies rewritten a second, and how long
it takes from the moment a wave may begin until the last of its devices knows, in Redis, where its next answer comes
from; in the first waves by a worker that takes all of its time for it.
"""

import asyncio
import contextlib
import time
from uuid import UUID

import aiohttp
from redis.asyncio.cluster import RedisCluster

from bench import load
from bench.field import worker
from bench.generator import Outcome
from bench.results import Report
from bench.rig import REST, SHARDS, UNDER_TEST, Process, Rig
from gateway.cli.local.embedded import EmbeddedValkey
from gateway.stores import models
from gateway.stores.accounts import credentials
from gateway.stores.tenants import organizations, projects, spaces
from schemas import ids, keys, postgres, redis
from schemas.postgres import Pool
from schemas.redis import Redis

WAVES = (10, 40, 100)
VERSION = "2.0.0"
SLICE = 10_000
POLL_S = 0.2
LATE_S = 5.0
"""A neighbour's reply may be so late at most."""
COMMANDED, COMMANDS_EVERY_S, LOOKED_EVERY_S = 500, 0.5, 0.005
WAVE_S = 600.0
CONNECTIONS = 64


async def run(rig: Rig, report: Report, *, seconds: float) -> None:
    """The first waves as fast as a worker can; then ingest alone, and beside the last wave, told as by default."""
    valkey = rig.valkey("always")
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 4)
    client = redis.connect(valkey.url)
    assert not isinstance(client, RedisCluster)
    neighbour = await _neighbour(pool)
    last = len(WAVES)
    async with worker(rig, valkey, "flusher,upkeep", REST):
        url, _ = rig.edge(valkey, UNDER_TEST)
        await _shards_open(client)
        async with _unhindered(rig, valkey):
            rollout_id = await _started(rig, pool)
            for number in range(1, last):
                told, took = await _wave(pool, client, rollout_id, number)
                _add(report, number, told, took)
                await _report(pool, rollout_id)
        await _ingest(url, rig, seconds)  # so that both times all devices have a state
        alone = await _ingest(url, rig, seconds)
        delays: list[float] = []
        async with worker(rig, valkey, "rollouts", REST):
            ingest = asyncio.create_task(_ingest(url, rig, seconds))
            commands = asyncio.create_task(_commands(url, client, *neighbour, delays))
            told, took = await _wave(pool, client, rollout_id, last)
            commands.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await commands
            beside = await ingest
        _add(report, last, told, took)
        shown = f"{len(delays):,}, {max(delays):.2f} s"
        report.add("rollout", "a neighbour's commands meanwhile, the latest known", shown, delays=delays)
        report.ratio("neighbour_reply_latest_s", max(delays), at_most=LATE_S)
        shown = f"{alone.rate:,.0f} → {beside.rate:,.0f}/s"
        report.add("rollout", "ingest alone → while a wave is told", shown, alone=alone.rate, beside=beside.rate)
        report.ratio("ingest_beside_a_rollout", beside.rate / alone.rate, at_least=0.9)
        report.ratio("rollout_replies_rewritten_s", told / took)
        async with _unhindered(rig, valkey):
            await _report(pool, rollout_id)
            await _finished(pool, rollout_id)
    await client.aclose()
    await pool.close()


def _unhindered(rig: Rig, valkey: EmbeddedValkey) -> contextlib.AbstractAsyncContextManager[Process]:
    """A worker that takes all of its time for rollouts."""
    return worker(rig, valkey, "rollouts", REST, FLEETGATE_ROLLOUTS_SHARE="1")


async def _wave(pool: Pool, client: Redis, rollout_id: UUID, number: int) -> tuple[int, float]:
    """Let a wave begin; returns how many devices it has, and after how many seconds the last of them knew."""
    began = time.perf_counter()
    await pool.execute(
        "UPDATE rollout_waves SET starts_at = NULL WHERE rollout_id = $1 AND number = $2", rollout_id, number
    )
    told = await _all_told(pool, client, rollout_id, number)
    return told, time.perf_counter() - began


def _add(report: Report, number: int, devices: int, took: float) -> None:
    percent, shown = WAVES[number - 1], f"{took:,.1f} s, {devices / took:,.0f}/s"
    report.add("rollout", f"wave to {percent} %: the last of {devices:,} knows", shown, seconds=took, devices=devices)


async def _ingest(url: str, rig: Rig, seconds: float) -> Outcome:
    return await load.generate(url, rig.folder / "devices.txt", connections=CONNECTIONS, seconds=seconds)


async def _neighbour(pool: Pool) -> tuple[str, list[UUID]]:
    """Another organization with devices of a model of its own: its key, and the devices."""
    device_ids = [ids.new_id() for _ in range(COMMANDED)]
    async with pool.acquire() as connection:
        organization = await organizations.create(connection, "Neighbour")
        project = await projects.create(connection, organization.id, "Neighbour")
        space = await spaces.create(connection, organization.id, project.id, "Neighbour")
        model = await models.create(connection, organization.id, vendor="Neighbour", name="Neighbour")
        key = await credentials.mint_and_store(connection, "organization", owner_id=organization.id, name="Neighbour")
        await connection.execute(
            """INSERT INTO command_definitions (id, model_id, name, friendly_name)
               VALUES ($1, $2, 'reboot', 'Restart')""",
            ids.new_id(),
            model.id,
        )
        shards = [ids.shard_of(str(one).encode(), SHARDS) for one in device_ids]
        await connection.execute(
            """INSERT INTO devices (id, shard, model_id, sn, firmware_version, organization_id, project_id, space_id,
                                    claimed_at, space_data_version)
               SELECT d.id, d.shard, $3, d.id::text, '1.0.0', $4, $5, $6, now(), 1
                 FROM unnest($1::uuid[], $2::smallint[]) AS d (id, shard)""",
            *(device_ids, shards, model.id, organization.id, project.id, space.id),
        )
    return key.text, device_ids


async def _commands(url: str, client: Redis, key: str, device_ids: list[UUID], delays: list[float]) -> None:
    """Send a command to one device after the other, and wait until its next answer tells of it."""
    async with aiohttp.ClientSession(url, headers={"authorization": key}) as http:
        for device_id in device_ids:
            name = str(device_id)
            began = time.perf_counter()
            path = f"/core/v1/organization/devices/{name}/commands"
            async with http.post(path, json={"command": "reboot"}) as answer:
                assert answer.status == 201, await answer.text()
            reply = keys.reply(ids.shard_of(name.encode(), SHARDS))
            while b'"command":true' not in (await client.hget(reply, name) or b""):
                await asyncio.sleep(LOOKED_EVERY_S)
            delays.append(time.perf_counter() - began)
            await asyncio.sleep(COMMANDS_EVERY_S)


async def _shards_open(client: Redis) -> None:
    async with asyncio.timeout(WAVE_S):
        while not all([await client.hget(keys.reply(shard), "!") for shard in range(SHARDS)]):
            await asyncio.sleep(POLL_S)


async def _started(rig: Rig, pool: Pool) -> UUID:
    """A rollout whose waves wait for their time, with all devices entered."""
    file_id, rollout_id = ids.new_id(), ids.new_id()
    await pool.execute(
        """INSERT INTO files (id, model_id, for_model_id, name, file_type, version, checksum, size, status)
           VALUES ($1, $2, $2, 'bench', 'firmware', $3, repeat('ab', 32), 1, 'released')""",
        file_id,
        rig.model_id,
        VERSION,
    )
    await pool.execute(
        """INSERT INTO rollouts (id, organization_id, as_vendor, name, file_id, model_id, channel, dynamic, status,
                                 created_by, created_at)
           SELECT $1, organization_id, true, 'bench', $2, id, 'reply', false, 'draft', 'bench', now()
             FROM device_models WHERE id = $3""",
        rollout_id,
        file_id,
        rig.model_id,
    )
    await pool.executemany(
        "INSERT INTO rollout_waves (rollout_id, number, percent, starts_at) VALUES ($1, $2, $3, '2100-01-01')",
        [(rollout_id, number, percent) for number, percent in enumerate(WAVES, start=1)],
    )
    await pool.execute("UPDATE rollouts SET status = 'running' WHERE id = $1", rollout_id)
    async with asyncio.timeout(WAVE_S):
        while not await pool.fetchval("SELECT enrolled FROM rollouts WHERE id = $1", rollout_id):
            await asyncio.sleep(POLL_S)
    return rollout_id


async def _all_told(pool: Pool, client: Redis, rollout_id: UUID, wave: int) -> int:
    """Wait until the replies of all devices of a wave name the firmware; returns how many they are."""
    async with asyncio.timeout(WAVE_S):
        while True:
            row = await pool.fetchrow(
                """SELECT w.filled AND w.status <> 'pending' AS filled,
                          coalesce(sum(c.devices) FILTER (WHERE c.state = 'waiting'), 0) AS waiting,
                          coalesce(sum(c.devices) FILTER (WHERE c.state = 'offered'), 0) AS offered
                     FROM rollout_waves w LEFT JOIN rollout_counts c USING (rollout_id)
                    WHERE w.rollout_id = $1 AND w.number = $2 AND c.wave = $2 GROUP BY 1""",
                rollout_id,
                wave,
            )
            queued = await pool.fetchval("SELECT count(*) FROM reply_queue")
            if row is not None and row["filled"] and not row["waiting"] and not queued:
                break
            await asyncio.sleep(POLL_S)
    replies = [await client.hvals(keys.reply(shard)) for shard in range(SHARDS)]
    told = sum(b'"latest_fw_version":"2.0.0"' in reply for of_shard in replies for reply in of_shard)
    assert told == row["offered"], "whose turn has come knows, and nobody else"
    return int(told)


async def _report(pool: Pool, rollout_id: UUID) -> None:
    """All devices that were told report the new version."""
    rows = await pool.fetch(
        "SELECT device_id FROM rollout_devices WHERE rollout_id = $1 AND state = 'offered' ORDER BY device_id",
        rollout_id,
        timeout=WAVE_S,
    )
    for first in range(0, len(rows), SLICE):
        await pool.execute(
            """UPDATE devices SET firmware_version = $2, firmware_reported_at = now()
                WHERE id IN (SELECT id FROM devices WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE)""",
            [row["device_id"] for row in rows[first : first + SLICE]],
            VERSION,
            timeout=WAVE_S,
        )
    async with asyncio.timeout(WAVE_S):
        while await pool.fetchval(
            "SELECT coalesce(sum(devices), 0) FROM rollout_counts WHERE rollout_id = $1 AND state = 'offered'",
            rollout_id,
        ):
            await asyncio.sleep(POLL_S)


async def _finished(pool: Pool, rollout_id: UUID) -> None:
    async with asyncio.timeout(WAVE_S):
        while await pool.fetchval("SELECT status FROM rollouts WHERE id = $1", rollout_id) != "finished":
            await asyncio.sleep(POLL_S)
