"""What it costs that a 2xx waits for a replica of Redis: two edges on one primary, one of which waits.

Primary and replica share the machine and its disk, so a message that waits is paid for twice there; where a replica has
a disk of its own, it costs a round trip and no throughput. Both edges are measured in turns.
"""

import asyncio
from statistics import median
from typing import Any

from bench import load
from bench.generator import Outcome
from bench.results import Report
from bench.rig import START_S, Rig, open_shards, until_ready
from gateway.cli.local.embedded import EmbeddedValkey
from schemas import redis

CONNECTIONS = (64, 512)
WAITED = (0, 1)


async def run(rig: Rig, report: Report, *, rounds: int, seconds: float) -> None:
    """Measure requests/s and latency with `FLEETGATE_REDIS_REPLICAS_MIN` 0 and 1."""
    devices, primary = rig.folder / "devices.txt", rig.valkey("always")
    rig.valkey("always", replicaof=f"127.0.0.1 {primary.port}")
    await _until_it_follows(primary)
    await open_shards(primary)
    urls = {}
    for waited in WAITED:
        urls[waited], _ = rig.edge(primary, FLEETGATE_REDIS_REPLICAS_MIN=str(waited))
        await until_ready(urls[waited])
    for connections in CONNECTIONS:
        outcomes: dict[int, list[Outcome]] = {waited: [] for waited in WAITED}
        for _ in range(rounds):
            for waited, url in urls.items():
                outcome = await load.closed(url, devices, connections=connections, seconds=seconds)
                assert outcome.accepted == outcome.answered, f"{waited}: {outcome.statuses}"
                outcomes[waited].append(outcome)
            await open_shards(primary)
        for waited, found in outcomes.items():
            rate, p50, p99 = (median(getattr(one, name) for one in found) for name in ("rate", "p50_ms", "p99_ms"))
            report.add(
                "replicas",
                f"2xx waits for {waited} replicas, {connections} connections",
                f"{rate:,.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms",
                rate=rate,
                p50_ms=p50,
                p99_ms=p99,
            )
        for name in ("rate", "p50_ms", "p99_ms"):
            alone, waiting = (median(getattr(one, name) for one in outcomes[waited]) for waited in WAITED)
            report.ratio(f"waiting_for_a_replica_{name}_{connections}", waiting / alone)


async def _until_it_follows(primary: EmbeddedValkey) -> None:
    """Wait for the replica to have all that the primary has."""
    client: Any = redis.connect(primary.url)
    async with asyncio.timeout(START_S):
        while (await client.info("replication")).get("slave0", {}).get("state") != "online":
            await asyncio.sleep(0.05)
    await client.aclose()
