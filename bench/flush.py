"""The flusher against bare COPY: the same messages, from the stream into events and state, or just into a table.

The limit is what the same Postgres takes by COPY of the finished rows into a table of the same columns and indexes,
on the same core.
"""

import asyncio
import gc
import time
from statistics import median

from prometheus_client import CollectorRegistry

from bench.results import Report
from bench.rig import MASTER_KEY, Rig, open_shards
from schemas import entries, keys, postgres, redis
from schemas.ids import shard_of
from schemas.metrics import Metrics
from schemas.settings import WorkerSettings
from workers.__main__ import GC_THRESHOLDS
from workers.flusher.flusher import Flusher
from workers.postgres_history import PostgresHistory

MESSAGES = 100_000
IN_ENTRY = 50
BODY = b'{"status":"online","telemetries":{"n":%d,"cpu":12.5,"mem":44,"disk":81,"up":true,"fw":"1.2.3"}}'


async def run(rig: Rig, report: Report, *, rounds: int) -> None:
    """Rows/s of both."""
    valkey = rig.valkey("everysec")
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 4)
    client = redis.connect(valkey.url)
    await open_shards(valkey)
    flushed: list[float] = []
    copied: list[float] = []
    costs: dict[str, list[float]] = {"flusher": [], "Postgres": []}
    gc.set_threshold(*GC_THRESHOLDS)
    settings = WorkerSettings(postgres_dsn=rig.postgres.dsn(), redis_url=valkey.url, master_key=MASTER_KEY)
    metrics = Metrics(CollectorRegistry())
    await pool.execute("CREATE TABLE copied (LIKE events INCLUDING INDEXES)")
    for number in range(rounds):
        await _fill(client, rig.device_ids)
        history = PostgresHistory(pool, client, metrics)
        flushers = [Flusher(pool, client, metrics, settings, history) for _ in range(4)]
        for shard, flusher in enumerate(flushers):
            await flusher.open(shard)
        began, worked, served = time.perf_counter(), time.process_time(), rig.postgres_cpu_s()
        stored = sum(await asyncio.gather(*(_drain(flusher) for flusher in flushers)))
        flushed.append(stored / (time.perf_counter() - began))
        costs["flusher"].append((time.process_time() - worked) / stored)
        costs["Postgres"].append((rig.postgres_cpu_s() - served) / stored)
        assert stored == MESSAGES, f"{stored} stored"
        rows = await pool.fetch(
            "SELECT shard, seq, stored_at, type, device_id, project_id, ts, data, labels FROM events"
            " ORDER BY stored_at DESC, shard, seq LIMIT $1",
            MESSAGES,
        )
        records = [tuple(row) for row in rows]
        await pool.execute("TRUNCATE copied")
        began = time.perf_counter()
        await pool.copy_records_to_table("copied", columns=list(rows[0].keys()), records=records, timeout=120)
        copied.append(len(records) / (time.perf_counter() - began))
        report.progress(f"flusher: round {number + 1} of {rounds}")
    await client.aclose()
    await pool.close()
    report.add("flush", "flusher, 4 shards, one process", f"{median(flushed):,.0f}/s", rate=median(flushed))
    report.add("flush", "bare COPY of the same rows", f"{median(copied):,.0f}/s", rate=median(copied))
    for name, taken in costs.items():
        first, later = 1e6 * taken[0], 1e6 * median(taken[1:] or taken)
        shown = f"{first:.1f}, {later:.1f} µs"
        report.add("flush", f"{name}, of a core for each message: first of a device, later", shown, µs=[first, later])
    report.ratio("flush_vs_copy", median(flushed) / median(copied))


async def _drain(flusher: Flusher) -> int:
    total = 0
    while stored := await flusher.flush():
        total += stored
    return total


async def _fill(client: redis.Redis, device_ids: list[str]) -> None:
    """Put the messages into the streams as an edge under load would."""
    pending: list[list[bytes]] = [[] for _ in range(4)]
    for number in range(MESSAGES):
        device_id = device_ids[number % len(device_ids)].encode()
        items = pending[shard_of(device_id, 4)]
        items += (device_id, b"00", BODY % number)
        if len(items) == 3 * IN_ENTRY or number >= MESSAGES - 1:
            await _add(client, device_id, items)
            items.clear()
    for items in pending:
        if items:
            await _add(client, items[0], items)


async def _add(client: redis.Redis, device_id: bytes, items: list[bytes]) -> None:
    entry = entries.pack(time.time_ns() // 1000, items)
    await client.xadd(keys.ingest(shard_of(device_id, 4)), {entries.FIELD: entry})
