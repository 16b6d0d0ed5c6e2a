"""The flusher against bare COPY: the same messages, from the stream into events and state, or just into a table.

The limit is what the same Postgres takes by COPY of the finished rows into a table of the same columns and indexes,
on the same core.
"""

import asyncio
import gc
import time
from statistics import median
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from bench import costs
from bench.costs import Meter
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


class Flushing:
    """A Valkey with shards to flush, and what a flush costs."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._valkey = rig.valkey("everysec")
        self._settings = WorkerSettings(
            postgres_dsn=rig.postgres.dsn(), redis_url=self._valkey.url, master_key=MASTER_KEY
        )
        self._metrics = Metrics(CollectorRegistry())

    async def __aenter__(self) -> "Flushing":
        gc.set_threshold(*GC_THRESHOLDS)
        self.pool = await postgres.create_pool(self._rig.postgres.dsn(), "bench", 4)
        self._client = redis.connect(self._valkey.url)
        await open_shards(self._valkey)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        await self.pool.close()

    async def measure(self) -> "Cost":
        """Store a message of each of the first so many devices."""
        await _fill(self._client, self._rig.device_ids)
        history = PostgresHistory(self.pool, self._client, self._metrics)
        flushers = [Flusher(self.pool, self._client, self._metrics, self._settings, history) for _ in range(4)]
        for shard, flusher in enumerate(flushers):
            await flusher.open(shard)
        meter = Meter(self.pool, {"Postgres": self._rig.postgres_pid})
        await meter.begin()
        began, worked = time.perf_counter(), time.process_time()
        stored = sum(await asyncio.gather(*(_drain(flusher) for flusher in flushers)))
        taken = time.perf_counter() - began
        assert stored == MESSAGES, f"{stored} stored"
        flusher_us = 1e6 * (time.process_time() - worked) / stored
        served = await meter.end(stored)
        return Cost(stored / taken, flusher_us, served.us["Postgres"], served.wal_bytes)


class Cost(NamedTuple):
    """Messages/s; of each message, µs of a core and bytes of WAL."""

    rate: float
    flusher_us: float
    postgres_us: float
    wal_bytes: float


async def run(rig: Rig, report: Report, *, rounds: int) -> None:
    """Rows/s of both."""
    flushed: list[Cost] = []
    copied: list[float] = []
    async with Flushing(rig) as flushing:
        pool = flushing.pool
        await pool.execute("CREATE TABLE copied (LIKE events INCLUDING INDEXES)")
        for number in range(rounds):
            flushed.append(await flushing.measure())
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
        await costs.report_size(pool, report, "flush")
    rate = median(cost.rate for cost in flushed)
    report.add("flush", "flusher, 4 shards, one process", f"{rate:,.0f}/s", rate=rate)
    report.add("flush", "bare COPY of the same rows", f"{median(copied):,.0f}/s", rate=median(copied))
    later = flushed[1:] or flushed
    for name, unit, found in (
        ("flusher, of a core", "µs", [cost.flusher_us for cost in flushed]),
        ("Postgres, of a core", "µs", [cost.postgres_us for cost in flushed]),
        ("WAL", "bytes", [cost.wal_bytes for cost in flushed]),
    ):
        first, usual = found[0], median(found[1:] or found)
        shown = f"{first:,.1f}, {usual:,.1f} {unit}"
        report.add("flush", f"{name}: a device's first message, later ones", shown, first=first, later=usual)
    both = median(cost.flusher_us + cost.postgres_us for cost in later)
    report.ratio("flushed_message_us", both)
    report.ratio("flush_vs_copy", rate / median(copied))


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
