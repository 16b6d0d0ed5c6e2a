"""Processes that freeze for longer than devices may be silent: an outage of ours is nobody's silence."""

import signal
from uuid import UUID

from webhooks import until

from schemas import postgres
from schemas.postgres import Connection
from tests.faults.stack import Load, Stack

FAST = """
from datetime import timedelta
from schemas import presence
from workers import offline
presence.BEAT_S, presence.LATE_S, offline.GRACE = 0.2, 0.6, timedelta(seconds=0.5)
"""
"""A tenth of the real times and less, in both processes."""
THRESHOLD_S = 2


async def test_an_edge_a_worker_or_redis_that_freezes_makes_no_device_offline(stack: Stack) -> None:
    """Neither while it is frozen nor once sweeps judge again after it woke up; real silence still does."""
    database = await postgres.connect(stack.postgres.dsn(), "faults")
    await database.execute("ALTER TABLE device_models DROP CONSTRAINT device_models_offline_threshold_s_check")
    await database.execute("UPDATE device_models SET offline_threshold_s = $1", THRESHOLD_S)
    edge = await stack.edge(FAST)
    worker = await stack.worker(prelude=FAST, FLEETGATE_SWEEP_INTERVAL_S="0.05")
    await stack.until_answers("/readyz")
    assert stack.valkey.process is not None
    victims = [[edge.child], [worker.child, stack.valkey.process]]
    *sending, silent = stack.devices
    key = stack.access_key(silent)
    assert (await stack.call("POST", f"/v1/devices/{silent}/telemetry", {"status": "online"}, key))[0] == 201
    async with Load(stack, connections=len(sending)) as load:
        await load.until(200)
        await until(lambda: offline(database, {silent}))
        for frozen in victims:
            for victim in frozen:
                victim.send_signal(signal.SIGSTOP)
            await until(lambda: unheard(database))
            assert await offline(database, {silent})
            await database.execute("UPDATE device_state SET offline = false WHERE device_id = $1", UUID(silent))
            for victim in frozen:
                victim.send_signal(signal.SIGCONT)
            await load.until(200)
            await until(lambda: offline(database, {silent}))
    assert await database.fetchval("SELECT count(*) FROM incidents") == 1, "one of a device that was heard"
    await until(lambda: offline(database, set(stack.devices)))
    assert await database.fetchval("SELECT count(*) FROM incidents") == len(stack.devices)
    await database.close()


async def unheard(database: Connection) -> bool:
    """Whether what is stored of all devices is older than they may be silent."""
    found: bool = await database.fetchval(
        "SELECT max(last_seen_at) < now() - make_interval(secs => $1) FROM device_state", 1.2 * THRESHOLD_S
    )
    return found


async def offline(database: Connection, expected: set[str]) -> bool:
    """Whether these devices are offline; no others are, so far."""
    found = await database.fetchval("SELECT coalesce(array_agg(device_id::text), '{}') FROM device_state WHERE offline")
    assert len(expected) > 1 or set(found) <= expected, f"{len(found)} devices are offline"
    return set(found) == expected
