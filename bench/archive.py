"""Closed days as files: what an event takes in both tiers, what closing a day costs, and reading across the border.

A month of devices that tell something every minute, in daily partitions. The flusher stores with the archiver stopped,
and beside it, in turn; then all closed days are moved, and pages of single devices a month back are read, and charts of
a whole month.
"""

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from uuid import UUID, uuid4

import psutil

from bench.costs import Meter
from bench.flush import Flushing
from bench.results import Report
from bench.rig import SHARDS, Process, Rig
from bench.seeded_files import seed
from gateway.stores.events import history, series
from gateway.stores.events.examining import Range
from gateway.stores.events.tiers import Tiers
from schemas.blobs.folder import FileReading, FolderStore
from schemas.ids import shard_of
from schemas.postgres import Pool
from workers import partitions
from workers.janitor import Janitor

DAYS = 31
OF_DAY = 1_440
HOT_DAYS = 2
PAIRS = 3
FILLED_MAX = 1_000_000
"""Events that lie in Postgres first; more are files from the beginning."""
PAGES, CHARTS, PAGE_SIZE = 200, 30, 100
SETTLED_S = 1800.0
FILL_S = 3600.0


async def run(rig: Rig, report: Report, *, events: int, rounds: int) -> None:
    """Bytes of an event, time of a day, the flusher's loss, milliseconds of a page and of a chart."""
    filled = min(events, FILLED_MAX) // (DAYS * OF_DAY)
    devices = [UUID(device_id) for device_id in rig.device_ids[: max(4, filled)]]
    async with Flushing(rig) as flushing:
        pool = flushing.pool
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        first = today - timedelta(days=DAYS)
        await _fill(rig, pool, devices, first, report)
        await flushing.measure()  # each device's first message
        archiver = Process([sys.executable, "-m", "workers"], "", _environment(rig))
        process = psutil.Process(archiver.pid)
        await _until(pool, "SELECT count(*) > 0 FROM archived_days")
        alone, beside, pairs = [], [], PAIRS * rounds
        for number in range(pairs):
            process.suspend()
            alone.append((await flushing.measure()).rate)
            process.resume()
            beside.append((await flushing.measure()).rate)
            report.progress(f"archive: {number + 1} of {pairs} in turn, {beside[-1] / alone[-1]:.2f}")
        under_way = not await pool.fetchval(_DONE, HOT_DAYS)
        archiver.stop()
        shown = f"{median(beside):,.0f}/s, without {median(alone):,.0f}/s"
        if under_way:
            report.add("archive", "flushed while days are closed, a tenth of the time", shown)
            report.ratio("archive_flush_beside", median(beside) / median(alone), at_least=0.95)
        await pool.execute("DELETE FROM archived_days")
        await pool.execute("UPDATE archive_files SET kept = false")
        meter = Meter(pool, {"Postgres": rig.postgres_pid})
        await meter.begin()
        archiver = Process([sys.executable, "-m", "workers"], "", _environment(rig) | {"FLEETGATE_ARCHIVE_SHARE": "1"})
        process, began = psutil.Process(archiver.pid), time.monotonic()
        await _until(pool, _DONE, HOT_DAYS)
        took_s, cpu_s = time.monotonic() - began, sum(process.cpu_times()[:2])
        archiver.stop()
        rows = await pool.fetchval("SELECT sum(rows)::bigint FROM archived_days")
        postgres_us = (await meter.end(rows)).us["Postgres"]
        in_postgres = await pool.fetchval("SELECT pg_total_relation_size($1::text)", partitions.name_of(first.date()))
        in_files = await pool.fetchval("SELECT sum(size)::bigint FROM archive_files WHERE kept")
        await Janitor(pool, DAYS + 7, hot_days=HOT_DAYS, shards=SHARDS).tidy()
        assert await pool.fetchval("SELECT count(*) FROM moved_days") == DAYS - HOT_DAYS + 1
        report.add(
            "archive", f"{rows:,} events: bytes of one in Postgres", f"{in_postgres / len(devices) / OF_DAY:,.0f}"
        )
        report.add("archive", "the same in files", f"{in_files / rows:,.1f}")
        days = DAYS - HOT_DAYS + 1
        shown = (
            f"{took_s / days:,.2f} s; of a core an event {1e6 * cpu_s / rows:,.1f} µs, Postgres {postgres_us:,.1f} µs"
        )
        report.add("archive", f"closing a day of {rows // days:,} events, without rests", shown)
        report.ratio(
            "archive_bytes_of_postgres", in_files / rows / (in_postgres / len(devices) / OF_DAY), at_most=0.125
        )
        await _grow(rig, pool, devices, first, report, events)


_DONE = f"""
    SELECT count(*) = {SHARDS} * count(DISTINCT day) AND count(DISTINCT day) = {DAYS} + 1 - $1 FROM archived_days
"""


def _environment(rig: Rig) -> dict[str, str]:
    return rig.environment(rig.valkey("everysec")) | {
        "FLEETGATE_WORKER_ROLES": "archiver",
        "FLEETGATE_ARCHIVE": "true",
        "FLEETGATE_ARCHIVE_HOT_DAYS": str(HOT_DAYS),
        "FLEETGATE_RETENTION_DAYS": str(DAYS + 7),
        "FLEETGATE_FILE_STORE": str(rig.folder / "files"),
    }


async def _until(pool: Pool, sql: str, *arguments: int) -> None:
    async with asyncio.timeout(SETTLED_S):
        while not await pool.fetchval(sql, *arguments):
            await asyncio.sleep(0.05)


async def _fill(rig: Rig, pool: Pool, devices: list[UUID], first: datetime, report: Report) -> None:
    """A month of messages, each day complete before its indexes are built."""
    daily = len(devices) * OF_DAY
    for n in range(DAYS):
        day = first + timedelta(days=n)
        table = partitions.name_of(day.date())
        await pool.execute(f"CREATE TABLE {table} (LIKE events INCLUDING DEFAULTS)")
        await pool.execute(
            f"""INSERT INTO {table} (shard, seq, stored_at, type, device_id, project_id, ts, data)
                SELECT ($6::smallint[])[1 + n % $3], $1 + n, at, 'telemetry', ($2::uuid[])[1 + n % $3], $4,
                       at - interval '40 ms',
                       ('{{"telemetry":{{"updateTime":"' || to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                        || '","status":"online","telemetries":{{"n":' || n || ',"cpu":' || round(random() * 1e4) / 100
                        || ',"mem":' || 40 + n % 9 || ',"disk":81,"up":true,"fw":"1.2.3"}}}}}}')::json
                  FROM (SELECT n::int, $5::timestamptz + make_interval(secs => 86399.0 * n / $7) AS at
                          FROM generate_series(0, $7 - 1) n) made""",
            1 + n * daily,
            devices,
            len(devices),
            rig.project_id,
            day,
            [shard_of(str(device_id).encode(), SHARDS) for device_id in devices],
            daily,
            timeout=FILL_S,
        )
        await pool.execute(
            f"ALTER TABLE events ATTACH PARTITION {table} FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')",
            timeout=FILL_S,
        )
        if n % 10 == 0 or n == DAYS - 1:
            report.progress(f"archive: {(n + 1) * daily:,} of {DAYS * daily:,} events")
    await pool.execute("UPDATE shards SET next_seq = $1", 1 + DAYS * daily)
    await pool.execute("ANALYZE events", timeout=FILL_S)


async def _grow(rig: Rig, pool: Pool, devices: list[UUID], first: datetime, report: Report, events: int) -> None:
    """Pages and charts with so many events behind them, ten times as many, and so on up to all that are wanted."""
    moved = [row["day"] for row in await pool.fetch("SELECT day FROM moved_days ORDER BY day")]
    behind = len(devices) * OF_DAY * DAYS
    while True:
        await _read(rig, pool, devices, first, report, behind)
        if behind * 2 > events:
            return
        behind = min(10 * behind, events)
        more = [uuid4() for _ in range(behind // (OF_DAY * DAYS) - len(devices))]
        await seed(pool, rig.folder / "files", rig.project_id, more, moved, report)
        devices = [*devices, *more]


class _Counting(FolderStore):
    """Counts what is read of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.names: set[str] = set()
        self.reads = self.bytes = 0

    async def read(self, name: str, start: int, end: int) -> FileReading:
        self.names.add(name)
        self.reads += 1
        self.bytes += end - start
        return await super().read(name, start, end)


async def _read(rig: Rig, pool: Pool, devices: list[UUID], first: datetime, report: Report, behind: int) -> None:
    store = _Counting(rig.folder / "files")
    tiers = Tiers(pool, store)
    month = first, first + timedelta(days=DAYS)

    async def page(device_id: UUID) -> None:
        shard = shard_of(str(device_id).encode(), SHARDS)
        back = first + timedelta(days=1, seconds=random.randrange(80_000))
        found = await history.page(
            tiers, rig.project_id, device_id, shard, Range(*month, (back, 0, 1)), event_types=[], limit=PAGE_SIZE
        )
        assert len(found.rows) == PAGE_SIZE

    async def chart(device_id: UUID) -> None:
        shard = shard_of(str(device_id).encode(), SHARDS)
        (found,) = await series.read(
            tiers, shard, device_id, [rig.project_id], ["cpu"], since=month[0], until=month[1], points=500
        )
        assert len(found.at) > 500 * (DAYS - HOT_DAYS) // DAYS

    for name, times, read, limit in (("page", PAGES, page, 100), ("chart", CHARTS, chart, 500)):
        store.names, store.reads, store.bytes = set(), 0, 0
        taken_ms = await _times(read, random.choices(devices, k=times))
        p95 = quantiles(taken_ms, n=20)[18]
        told = "a page of 100, 30 days back" if name == "page" else "a chart of 31 days, 44,640 messages"
        reads, read_kb, files = store.reads / times, store.bytes / times / 1e3, len(store.names)
        shown = f"{median(taken_ms):.1f} / {p95:.1f} ms; {reads:.1f} reads, {read_kb:,.0f} kB; {files:,} files in all"
        report.add("archive", f"{behind:,} events: {told}, p50 / p95", shown, times_ms=taken_ms)
        report.ratio(f"archive_{name}_p95_ms", p95, at_most=limit)
    await tiers.close()
    await store.close()


async def _times(read: Callable[[UUID], Awaitable[None]], devices: list[UUID]) -> list[float]:
    taken_ms = []
    for device_id in devices:
        began = time.perf_counter()
        await read(device_id)
        taken_ms.append(1000 * (time.perf_counter() - began))
    return taken_ms
