"""What workers do as time passes: the command clock, the offline sweep, retention, a new day; beside full tables.

The first two are measured on two sizes of their tables, so that a cost that grows with what was ever stored shows. The
sweep then marks every device, while a flusher stores; how long another event waits meanwhile in the outbox is what is
held against a limit. All commands that have ended are deleted at once, while somebody sends some. A day's partition is
made while a reader of the log stays open, and a writer goes on.
"""

import asyncio
import time
from uuid import UUID

from prometheus_client import CollectorRegistry

from bench.results import Report
from bench.rig import MASTER_KEY, SHARDS, Rig, open_shards
from bench.timing import median_s
from schemas import outbox, postgres, redis
from schemas.life_cycle import ConfigChanged
from schemas.metrics import Metrics
from schemas.postgres import Pool
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from workers.command_clock import CommandClock
from workers.flusher.flusher import Flusher
from workers.offline import GRACE, OfflineSweep
from workers.postgres_history import PostgresHistory
from workers.retention import Retention

OPEN_SHARE = 10
"""One command in so many is still open."""
COMMANDED = 10_000
"""Devices that have commands: what each has open is counted, row by row, in its own row."""
ROUNDS = 9
SEED_S = 600.0

_COMMANDS = """
    INSERT INTO commands (id, device_id, name, friendly_name, status, timeout_s, delivered_at, expires_at, finished_at)
    SELECT gen_random_uuid(), ($1::uuid[])[1 + n % cardinality($1::uuid[])], 'reboot', 'Reboot',
           CASE WHEN n % $3 = 0 THEN 'pending' ELSE 'done' END, 600,
           CASE WHEN n % (2 * $3) = 0 THEN now() END, now() + interval '7 days',
           CASE WHEN n % $3 > 0 THEN now() END
      FROM generate_series(1, $2::integer) n
"""
_STATES = """
    INSERT INTO device_state (shard, device_id, telemetries, state_at, last_seen_at, check_at)
    SELECT d.shard, d.id, '{"n":1,"cpu":12.5,"mem":44,"disk":81}', now(), now(), now() + interval '5 minutes'
      FROM unnest($1::smallint[], $2::uuid[]) AS d (shard, id)
"""


async def run(rig: Rig, report: Report) -> None:
    """The costs at two sizes, and the waits."""
    valkey = rig.valkey("everysec")
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 8)
    client = redis.connect(valkey.url)
    await open_shards(valkey)
    await _clock(rig, pool, client, report)
    sweep = OfflineSweep(pool, client, Metrics(CollectorRegistry()), SHARDS)
    await _sweep(rig, pool, sweep, report)
    await _mark_all(rig, pool, client, sweep, report)
    await _retain(rig, pool, report)
    await _new_day(pool, report)
    await client.aclose()
    await pool.close()


async def _clock(rig: Rig, pool: Pool, client: Redis, report: Report) -> None:
    clock = CommandClock(pool, client, Metrics(CollectorRegistry()))
    commands = len(rig.device_ids)
    for part in (commands // 10, commands - commands // 10):
        await pool.execute(_COMMANDS, rig.device_ids[:COMMANDED], part, OPEN_SHARE, timeout=SEED_S)
        await pool.execute("ANALYZE commands", timeout=SEED_S)
        took = await median_s(ROUNDS, clock.advance)
        count = await pool.fetchval("SELECT count(*) FROM commands")
        report.add("upkeep", f"command clock, {count:,} commands", f"{took * 1e3:,.1f} ms", seconds=took)
    report.ratio("command_clock_ms", took * 1e3, at_most=20)


async def _sweep(rig: Rig, pool: Pool, sweep: OfflineSweep, report: Report) -> None:
    now = await pool.fetchval("SELECT now()")
    await sweep.sweep(now - GRACE)
    shards = {str(row["id"]): row["shard"] for row in await pool.fetch("SELECT id, shard FROM devices", timeout=SEED_S)}
    tenth = len(rig.device_ids) // 10
    for part in (rig.device_ids[:tenth], rig.device_ids[tenth:]):
        await pool.execute(_STATES, [shards[device_id] for device_id in part], part, timeout=SEED_S)
        await pool.execute("VACUUM ANALYZE device_state", timeout=SEED_S)
        took = await median_s(ROUNDS, lambda: sweep.sweep(now))
        count = await pool.fetchval(
            "SELECT count(*) FROM device_state WHERE shard = ANY($1::smallint[])", list(range(SHARDS))
        )
        report.add("upkeep", f"offline sweep, {count:,} devices, none silent", f"{took * 1e3:,.1f} ms", seconds=took)


async def _mark_all(rig: Rig, pool: Pool, client: Redis, sweep: OfflineSweep, report: Report) -> None:
    """All devices go offline at once, while somebody changes a config now and then."""
    settings = WorkerSettings(postgres_dsn=rig.postgres.dsn(), redis_url="redis://", master_key=MASTER_KEY)
    metrics = Metrics(CollectorRegistry())
    flusher = Flusher(pool, client, metrics, settings, PostgresHistory(pool, client, metrics))
    for shard in range(SHARDS):
        await flusher.open(shard)
    done = asyncio.Event()
    waits: list[float] = []
    now = await pool.fetchval("SELECT now() + interval '1 hour'")
    async with asyncio.TaskGroup() as group:
        group.create_task(_flush(flusher, done))
        changing = group.create_task(_change(rig, pool, done, waits))
        began = time.perf_counter()
        marked = await sweep.sweep(now)
        took = time.perf_counter() - began
        done.set()
        await changing
    report.add("upkeep", f"{marked:,} devices go offline", f"{took:,.1f} s", seconds=took)
    report.ratio("event_waits_while_devices_go_offline_s", max(waits), at_most=5)


async def _flush(flusher: Flusher, done: asyncio.Event) -> None:
    while not done.is_set():
        await flusher.flush()
        await asyncio.sleep(0.05)
    while await flusher.flush():
        pass


async def _change(rig: Rig, pool: Pool, done: asyncio.Event, waits: list[float]) -> None:
    while not waits or not done.is_set():
        number = len(waits)
        device_id = rig.device_ids[number % len(rig.device_ids)]
        began = time.perf_counter()
        async with pool.acquire() as connection, connection.transaction():
            now = await connection.fetchval("SELECT now()")
            told = ConfigChanged(version=number + 1)
            await outbox.append(connection, [outbox.event(UUID(device_id), told, now)])
            [last] = await connection.fetch("SELECT max(id) AS id FROM event_outbox WHERE type = 'configChanged'")
        while await pool.fetchval("SELECT EXISTS (SELECT FROM event_outbox WHERE id = $1)", last["id"]):
            await asyncio.sleep(0.01)
            if done.is_set() and time.perf_counter() - began > 1:
                break
        waits.append(time.perf_counter() - began)


async def _retain(rig: Rig, pool: Pool, report: Report) -> None:
    """Everything that has ended is old enough; devices are sent commands meanwhile, in vain and for good."""
    settings = WorkerSettings(postgres_dsn="", redis_url="", master_key=MASTER_KEY, commands_days=1)
    retention = Retention(pool, Metrics(CollectorRegistry()), settings, SHARDS)
    now = await pool.fetchval("SELECT now() + interval '2 days'")
    before = await pool.fetchval("SELECT count(*) FROM commands", timeout=SEED_S)
    waits: list[float] = []
    began = time.perf_counter()
    tidying = asyncio.create_task(retention.tidy(now))
    while not tidying.done():
        sent = time.perf_counter()
        await pool.execute(_COMMANDS, rig.device_ids[1:2], 1, 1)
        waits.append(time.perf_counter() - sent)
        await asyncio.sleep(0.01)
    await tidying
    took = time.perf_counter() - began
    deleted = before + len(waits) - await pool.fetchval("SELECT count(*) FROM commands", timeout=SEED_S)
    report.add(
        "upkeep",
        f"{deleted:,} ended commands deleted",
        f"{deleted / took:,.0f}/s",
        seconds=took,
        waits_s=sorted(waits)[-20:],
    )
    report.ratio("command_waits_while_others_are_deleted_s", max(waits), at_most=1)


async def _new_day(pool: Pool, report: Report) -> None:
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT * FROM events LIMIT 1")
        began = time.perf_counter()
        await pool.execute("SELECT create_event_partitions(9)")
        took = time.perf_counter() - began
    report.add("upkeep", "six partitions beside an open reader of the log", f"{took * 1e3:,.0f} ms", seconds=took)
