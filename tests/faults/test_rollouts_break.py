"""A rollout whose worker is killed in a step, and whose Redis is emptied: it goes on, and counts nobody twice."""

import asyncio
import signal
from collections import Counter
from typing import Any

from gateway.cli.local.embedded import EmbeddedValkey
from schemas import ids, keys, postgres, redis
from tests.conftest import SHARDS
from tests.faults.stack import RECOVERY_S, Stack

ROLES = {"FLEETGATE_WORKER_ROLES": "flusher,rollouts,upkeep"}
WAVES = (30, 100)


async def rolled_out(stack: Stack) -> Any:
    """A rollout of new firmware in two waves, under way."""
    connection = await postgres.connect(stack.postgres.dsn(), "faults")
    file_id, rollout_id = ids.new_id(), ids.new_id()
    await connection.execute(
        """INSERT INTO files (id, model_id, for_model_id, name, file_type, version, checksum, size, status)
           SELECT $1, id, id, 'firmware', 'firmware', '2.0.0', repeat('ab', 32), 1, 'released' FROM device_models""",
        file_id,
    )
    await connection.execute(
        """INSERT INTO rollouts (id, organization_id, as_vendor, name, file_id, model_id, channel, dynamic, status,
                                 created_by, created_at)
           SELECT $1, organization_id, true, 'Spring', $2, id, 'command', false, 'running', 'faults', now()
             FROM device_models""",
        rollout_id,
        file_id,
    )
    await connection.executemany(
        "INSERT INTO rollout_waves (rollout_id, number, percent) VALUES ($1, $2, $3)",
        [(rollout_id, number, percent) for number, percent in enumerate(WAVES, start=1)],
    )
    await connection.close()
    return rollout_id


async def states(stack: Stack) -> Counter[str]:
    connection = await postgres.connect(stack.postgres.dsn(), "faults")
    async with connection.transaction(isolation="repeatable_read", readonly=True):  # all of one moment
        rows = await connection.fetch("SELECT state FROM rollout_devices")
        counted = await connection.fetch("SELECT state, sum(devices) AS devices FROM rollout_counts GROUP BY state")
        sent = await connection.fetchval("SELECT count(*) FROM commands")
    await connection.close()
    found = Counter(row["state"] for row in rows)
    assert found == Counter({row["state"]: int(row["devices"]) for row in counted if row["devices"]})
    assert sent == found.total() - found["waiting"], "no device is sent the command twice"
    return found


async def told(valkey: EmbeddedValkey) -> int:
    """Devices whose next answer tells of the firmware."""
    client = redis.connect(valkey.url)
    replies = [await client.hvals(keys.reply(shard)) for shard in range(SHARDS)]
    await client.aclose()
    return sum(b'"latest_fw_version":"2.0.0"' in reply for of_shard in replies for reply in of_shard)


async def until_all_told(stack: Stack, expected: int) -> None:
    async with asyncio.timeout(RECOVERY_S):
        while (await states(stack))["waiting"] != len(stack.devices) - expected or await told(stack.valkey) != expected:
            await asyncio.sleep(0.05)


async def test_a_killed_worker_leaves_a_rollout_between_two_steps(stack: Stack) -> None:
    """In the middle of a step, and after its commit, before devices were told. Then Redis forgets all it was told."""
    rollout_id = await rolled_out(stack)
    for point in ("rollout_step:4", "rollout_committed:1"):
        dying = await stack.worker("--die-at", point, **ROLES)
        assert await dying.ended() == -signal.SIGKILL
    await stack.worker(**ROLES)
    first = await stack.query(
        "SELECT count(*) FROM devices WHERE rollout_position($1, id) < round(4294967296::numeric * 30 / 100)",
        rollout_id,
    )
    await until_all_told(stack, first)
    client = redis.connect(stack.valkey.url)
    await client.flushall()
    await client.aclose()
    await until_all_told(stack, first)
    await stack.query("UPDATE devices SET firmware_version = '2.0.0' WHERE latest_fw_version = '2.0.0' RETURNING true")
    async with asyncio.timeout(RECOVERY_S):
        while (await states(stack))["succeeded"] != first or await told(stack.valkey) != len(stack.devices) - first:
            await asyncio.sleep(0.05)
