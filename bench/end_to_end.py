"""A million devices once a minute through everything: edge, Valkey with fsync always, worker, Postgres, on all cores.

The rate is fixed and does not wait for answers. Lag is how many messages wait between the 2xx and Postgres; its slope
over the run tells whether the system keeps up. Afterwards every message's number is looked for in the event log.
"""

import asyncio
import os

from bench import load
from bench.results import Report
from bench.rig import Rig, until_ready
from schemas import postgres, redis
from schemas.keys import ingest

CONNECTIONS = 128
DRAIN_S = 120
ALL = f"0-{(os.cpu_count() or 1) - 1}"


async def run(rig: Rig, report: Report, *, rate: float, seconds: float) -> None:
    """p50, p99, lag, loss and doubles at one rate."""
    valkey = rig.valkey("always")
    rig.worker(valkey, ALL)
    url, _ = rig.edge(valkey, ALL)
    await until_ready(url)
    lags: list[tuple[float, int]] = []
    watching = asyncio.create_task(_watch(valkey.url, lags), name="lag")
    devices = rig.folder / "devices.txt"
    outcome = await load.generate(url, devices, connections=CONNECTIONS, seconds=seconds, rate=rate, cores=ALL)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    connection = await postgres.connect(rig.postgres.dsn(), "bench")
    stored = "SELECT count(*) FROM events WHERE type = 'telemetry'"
    for _ in range(DRAIN_S):
        rows = await connection.fetchval(stored, timeout=60)
        if rows >= outcome.accepted:
            break
        await asyncio.sleep(1)
    distinct = await connection.fetchval(
        "SELECT count(DISTINCT data->'telemetry'->'telemetries'->>'n') FROM events WHERE type = 'telemetry'",
        timeout=300,
    )
    await connection.close()
    figures = {
        "rate": outcome.accepted / outcome.seconds,
        "p50_ms": outcome.p50_ms,
        "p99_ms": outcome.p99_ms,
        "lost": outcome.accepted - distinct,
        "duplicated": rows - distinct,
        "lag_slope": slope(lags),
        "lag_max": max((lag for _, lag in lags), default=0),
        "seconds": seconds,
        "refused": outcome.answered - outcome.accepted + outcome.unanswered,
    }
    report.add(
        "end to end",
        f"{rate:,.0f}/s for {seconds:g} s, {len(rig.device_ids):,} devices",
        f"{figures['rate']:,.0f}/s, p50 {outcome.p50_ms:.1f} ms, p99 {outcome.p99_ms:.1f} ms, "
        f"lost {figures['lost']}, doubled {figures['duplicated']}, refused {figures['refused']}, "
        f"lag at most {figures['lag_max']:,} entries, slope {figures['lag_slope']:+.1f}/s",
    )
    report.figures("end_to_end", figures)


async def _watch(url: str, lags: list[tuple[float, int]]) -> None:
    client = redis.connect(url)
    loop = asyncio.get_running_loop()
    try:
        while True:
            lengths = [await client.xlen(ingest(shard)) for shard in range(4)]
            lags.append((loop.time(), sum(lengths)))
            await asyncio.sleep(0.5)
    finally:
        await client.aclose()


def slope(samples: list[tuple[float, int]]) -> float:
    """Entries a second by which the lag grows over the run, by least squares."""
    if len(samples) < 2:
        return 0.0
    mean_t = sum(t for t, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((t - mean_t) ** 2 for t, _ in samples)
    return sum((t - mean_t) * (y - mean_y) for t, y in samples) / spread
