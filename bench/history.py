"""The history of one device with a long log behind it: what a page costs must not depend on how long the log is.

The log holds a month of a fleet's telemetry in daily partitions: first that of a hundredth of the devices, then of all,
a thousand events each. The same pages are read from both, of any device each time, so those of the large log come from
disk where it does not fit into memory. The whole plan of one of them is among the results.
"""

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles
from uuid import UUID

from bench.results import Report
from bench.rig import SHARDS, Rig
from gateway.stores.events import by_index
from gateway.stores.events import history as event_history
from gateway.stores.events.examining import Range
from gateway.stores.events.tiers import Tiers
from schemas import postgres
from schemas.blobs.folder import FolderStore
from schemas.ids import shard_of
from schemas.postgres import Pool

DAYS = 31
EVENTS_OF_DEVICE = 1000
PAGE_SIZE = 100
PAGES = 200
FILL_S = 3600.0


async def run(rig: Rig, report: Report) -> None:
    """Milliseconds and blocks of a page, newest and deep, with few devices' and with all devices' events behind it."""
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 2)
    tiers = Tiers(pool, FolderStore(rig.folder / "files"))
    blocks: list[float] = []
    devices = [UUID(device_id) for device_id in rig.device_ids]
    for some in (devices[: len(devices) // 100], devices):
        events = EVENTS_OF_DEVICE * len(some)
        await _fill(rig, pool, some, report)
        for name, before_days in (("the newest page", 0), ("a page from the middle on", 15)):
            times_ms = await _pages(rig, tiers, some, before_days)
            shown = f"{median(times_ms):.1f} / {quantiles(times_ms, n=100)[98]:.0f} ms"
            report.add("history", f"{events:,} events: {name}, p50 / p99", shown, times_ms=times_ms)
        plan, touched = await _plan(rig, tiers, some[0])
        blocks.append(touched)
    await pool.close()
    report.add("history", f"{events:,} events: blocks that a page touches", f"{touched}", plan=plan)
    report.progress(f"its plan: {_shown(plan)}")
    report.ratio("history_blocks_of_100_times_the_log", blocks[1] / blocks[0], at_most=2)


async def _fill(rig: Rig, pool: Pool, devices: list[UUID], report: Report) -> None:
    """A month of events, the same number a day, the devices taking turns. Indexes are built when a day is complete."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    daily = EVENTS_OF_DEVICE * len(devices) // DAYS
    for n in range(DAYS):
        day = today - timedelta(days=DAYS - 1 - n)
        table = f"events_{day:%Y%m%d}"
        await pool.execute(f"DROP TABLE IF EXISTS {table}")
        await pool.execute(f"CREATE TABLE {table} (LIKE events INCLUDING DEFAULTS)")
        await pool.execute(
            f"""INSERT INTO {table} (shard, seq, stored_at, type, device_id, project_id, ts, data)
                SELECT ($7::smallint[])[1 + n % $3], $1 + n, at, 'telemetry', ($2::uuid[])[1 + n % $3], $4, at,
                       ('{{"telemetry":{{"updateTime":"' || to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                        || '","status":"online","telemetries":{{"cpu":' || n % 100 || ',"mem":44,"up":true}}}}}}')::json
                  FROM (SELECT n::int, $5::timestamptz + make_interval(secs => 86399.0 * n / $6) AS at
                          FROM generate_series(0, $6 - 1) n) made""",
            n * daily,
            devices,
            len(devices),
            rig.project_id,
            day,
            daily,
            [shard_of(str(device_id).encode(), SHARDS) for device_id in devices],
            timeout=FILL_S,
        )
        await pool.execute(
            f"ALTER TABLE events ATTACH PARTITION {table} FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')",
            timeout=FILL_S,
        )
        if n % 10 == 0 or n == DAYS - 1:
            report.progress(f"history: {(n + 1) * daily:,} of {DAYS * daily:,} events")
    await pool.execute("ANALYZE events", timeout=FILL_S)


async def _pages(rig: Rig, tiers: Tiers, devices: list[UUID], before_days: int) -> list[float]:
    now = datetime.now(UTC)
    before = (now - timedelta(days=before_days), 0, 1) if before_days else None
    within = Range(now - timedelta(days=DAYS - 1), now, before)
    times_ms = []
    for device_id in random.choices(devices, k=PAGES):
        began = time.perf_counter()
        found = await event_history.page(
            tiers,
            rig.project_id,
            device_id,
            shard_of(str(device_id).encode(), SHARDS),
            within,
            event_types=[],
            limit=PAGE_SIZE,
        )
        times_ms.append(1000 * (time.perf_counter() - began))
        assert len(found.rows) == PAGE_SIZE
    return times_ms


def _shown(plan: list[str]) -> str:
    """What a plan is made of: `Merge Append, 31 × Index Scan Backward`."""
    nodes = Counter(line.partition("->")[2].strip().partition(" (")[0].partition(" using ")[0] for line in plan)
    return ", ".join(f"{count} × {node}" if count > 1 else node for node, count in nodes.items() if node)


async def _plan(rig: Rig, tiers: Tiers, device_id: UUID) -> tuple[list[str], int]:
    """The plan of a page of a month, as text, and how many blocks it touched."""
    now = datetime.now(UTC)
    since = now - timedelta(days=DAYS - 1)
    shard = shard_of(str(device_id).encode(), SHARDS)
    examined = event_history.examined(rig.project_id, device_id, shard, Range(since, now, None), [])
    statement, arguments = examined.page(0, PAGE_SIZE)
    async with by_index.reading(tiers) as connection:
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}", *arguments)
    lines = [row[0] for row in rows]
    buffers = next(line for line in lines if "Buffers:" in line)
    return lines, sum(int(part.partition("=")[2]) for part in buffers.split() if part.startswith(("hit=", "read=")))
