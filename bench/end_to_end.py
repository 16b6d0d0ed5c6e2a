"""A million devices once a minute through everything: edge, Valkey with fsync always, worker, Postgres, on all cores.

The rate is fixed and does not wait for answers. Lag is how many messages wait between the 2xx and Postgres; its slope
over the run tells whether the system keeps up. Afterwards every message's number is looked for in the event log.

Then as many messages as are answered go in for some seconds. What each message cost every process is measured in both.
"""

import asyncio
import os

from bench import costs, load
from bench.costs import Meter
from bench.results import Report
from bench.rig import Rig, until_ready
from schemas import postgres, redis
from schemas.keys import ingest
from schemas.postgres import Connection

CONNECTIONS = 128
DRAIN_S = 120
SATURATED_S = 20
ALL = f"0-{(os.cpu_count() or 1) - 1}"


async def run(rig: Rig, report: Report, *, rate: float, seconds: float) -> None:
    """p50, p99, lag, loss and doubles at one rate."""
    valkey = rig.valkey("always")
    worker = rig.worker(valkey, ALL)
    url, edge = rig.edge(valkey, ALL)
    await until_ready(url)
    assert valkey.process is not None
    pids = {"edge": edge.pid, "Valkey": valkey.process.pid, "worker": worker.pid, "Postgres": rig.postgres_pid}
    connection = await postgres.connect(rig.postgres.dsn(), "bench")
    meter = Meter(connection, pids)
    await meter.begin()
    lags: list[tuple[float, int]] = []
    watching = asyncio.create_task(_watch(valkey.url, lags), name="lag")
    devices = rig.folder / "devices.txt"
    outcome = await load.generate(url, devices, connections=CONNECTIONS, seconds=seconds, rate=rate, cores=ALL)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    at_rate = await _until_stored(connection, outcome.accepted)
    cost = await meter.end(at_rate)
    found = await connection.fetchrow(
        """SELECT count(*), count(DISTINCT data->'telemetry'->'telemetries'->>'n') FROM events
            WHERE type = 'telemetry'""",
        timeout=300,
    )
    assert found is not None
    rows, distinct = found
    await costs.report_size(connection, report, "end to end")
    await meter.begin()
    saturated = await load.closed(url, devices, connections=CONNECTIONS, seconds=min(seconds, SATURATED_S))
    stored = await _until_stored(connection, at_rate + saturated.accepted) - at_rate
    cost_saturated = await meter.end(stored)
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
    report.add("end to end", f"a message at {rate:,.0f}/s", str(cost), cost=cost)
    report.add("end to end", f"a message at {saturated.rate:,.0f}/s, all that is answered", str(cost_saturated))
    report.ratio("worker_and_postgres_us", cost.us["worker"] + cost.us["Postgres"])


async def _until_stored(connection: Connection, accepted: int) -> int:
    """Wait until so many messages are stored, as long as that may take; how many are."""
    stored = 0
    for _ in range(DRAIN_S):
        stored = await connection.fetchval("SELECT sum(count)::bigint FROM ingest_ledger WHERE outcome = 'stored'") or 0
        if stored >= accepted:
            break
        await asyncio.sleep(1)
    return stored


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
