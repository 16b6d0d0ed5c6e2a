"""Webhooks: how fast one dispatcher sends, how soon an event arrives, what bad endpoints and backlogs cost the others.

The dispatcher has a core to itself; Postgres, the receiver and the load share the rest. The limit for the rate is a
bare aiohttp client on the same core, posting the same bodies to the same receiver, in turns with the dispatcher.
"""

import asyncio
import sys
from statistics import median
from typing import Any

from bench import load
from bench.end_to_end import ALL
from bench.field import Field, field, worker
from bench.results import Report
from bench.rig import REST, UNDER_TEST, Rig, pinned, until_ready
from gateway.cli.local.embedded import EmbeddedValkey

CONNECTORS = 8
EVENTS_PER_S = 3_000
"""Owed to each connector for each second of a round: a dispatcher's first second is spent on finding its pace."""
ENDPOINTS = 100
CAUGHT_UP = 100_000
"""Events of the backlog after which its rate is known."""


async def run(rig: Rig, report: Report, *, rounds: int, seconds: float, behind: int) -> dict[str, float]:
    """All of it; returns the named figures. `behind` is the size of the backlog that is caught up with."""
    valkey = rig.valkey("everysec")
    figures: dict[str, float] = {}
    async with field(rig) as made:
        figures |= await _rate(made, valkey, report, rounds, seconds)
        figures |= await _end_to_end(made, valkey, report, 3 * seconds)
        figures |= await _hanging(made, valkey, report, rounds, 2 * seconds)
        figures |= await _catching_up(made, valkey, report, rounds, behind, 2 * seconds)
        figures |= await _ten_connectors(made, valkey, report, rounds, seconds)
    report.figures("delivery", figures)
    return figures


async def _rate(field: Field, valkey: EmbeddedValkey, report: Report, rounds: int, seconds: float) -> dict[str, float]:
    """Signed deliveries a second of one process, against the bare client."""
    project_ids = [await field.project(f"rate {n}") for n in range(CONNECTORS)]
    await field.happen(project_ids[0], 1000)
    bodies = field.rig.folder / "bodies.txt"
    bodies.write_bytes(await field.bodies(project_ids[0]))
    each = int(seconds * EVENTS_PER_S)
    bare: list[float] = []
    ours: list[float] = []
    for number in range(rounds):
        bare.append(await _bare(field, bodies, seconds))
        for n, project_id in enumerate(project_ids):
            await field.connector(project_id, f"/ok/{n}")
            await field.happen(project_id, each)
        field.forget()
        async with worker(field.rig, valkey, "dispatcher", UNDER_TEST):
            await field.until(CONNECTORS * each)
            seen = field.seen().values()
        took_s = max(path["last_at"] for path in seen) - min(path["first_at"] for path in seen)
        ours.append(CONNECTORS * each / took_s)
        await field.clear()
        report.progress(f"delivery: round {number + 1} of {rounds}")
    report.add("delivery", "bare aiohttp client, 64 requests at once", f"{median(bare):,.0f}/s", rate=median(bare))
    report.add("delivery", "one dispatcher, signed, 8 connectors", f"{median(ours):,.0f}/s", rate=median(ours))
    report.ratio("delivery_vs_bare_client", median(ours) / median(bare), at_least=0.55)
    return {"rate": median(ours), "bare_rate": median(bare)}


async def _end_to_end(field: Field, valkey: EmbeddedValkey, report: Report, seconds: float) -> dict[str, float]:
    """From the device's request to the receiver, everything on all cores."""
    rate = 1_000
    await field.connector(field.rig.project_id, "/timed/device")
    field.forget()
    async with worker(field.rig, valkey, "flusher,dispatcher,upkeep", ALL):
        url, edge = field.rig.edge(valkey, ALL)
        await until_ready(url)
        devices = field.rig.folder / "devices.txt"
        sent = await load.generate(url, devices, connections=32, seconds=seconds, rate=rate, cores=ALL)
        await field.until(sent.accepted)
        edge.stop()
    seen = field.seen()["/timed/device"]
    await field.clear()
    report.add(
        "delivery",
        f"device to webhook at {rate:,}/s",
        f"p50 {seen['p50_ms']:.0f} ms, p99 {seen['p99_ms']:.0f} ms",
        **seen,
    )
    report.ratio("device_to_webhook_p50_ms", seen["p50_ms"], at_most=150)
    report.ratio("device_to_webhook_p99_ms", seen["p99_ms"], at_most=500)
    return {"device_to_webhook_p50_ms": seen["p50_ms"], "device_to_webhook_p99_ms": seen["p99_ms"]}


async def _hanging(
    field: Field, valkey: EmbeddedValkey, report: Report, rounds: int, seconds: float
) -> dict[str, float]:
    """A hundred endpoints, each of a project of its own; in every other run ten of them never answer."""
    project_ids = [await field.project(f"hanging {n}") for n in range(ENDPOINTS)]
    p99_ms: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for hanging in (False, True):
            for n, project_id in enumerate(project_ids):
                await field.connector(project_id, f"/hang/{n}" if hanging and n % 10 == 0 else "/timed/healthy")
            async with worker(field.rig, valkey, "dispatcher", UNDER_TEST):
                await field.trickle(project_ids, 500, 1)
                await field.until(1, "/timed/")
                field.forget()
                await field.trickle(project_ids, 1_000, seconds)
                await asyncio.sleep(1)
                await field.until(1, "/timed/")
                p99_ms[hanging].append(field.seen()["/timed/healthy"]["p99_ms"])
            await field.clear()
    without, with_hanging = median(p99_ms[False]), median(p99_ms[True])
    report.add("delivery", "100 endpoints, 1,000/s, none hangs", f"p99 {without:.0f} ms", p99_ms=without)
    report.add("delivery", "10 of them hang: the healthy 90", f"p99 {with_hanging:.0f} ms", p99_ms=with_hanging)
    report.ratio("healthy_p99_beside_hanging", with_hanging / without, at_most=1.5)
    return {"healthy_p99_beside_hanging": with_hanging / without}


async def _catching_up(
    field: Field, valkey: EmbeddedValkey, report: Report, rounds: int, behind: int, seconds: float
) -> dict[str, float]:
    """One connector with a backlog beside ten that live from hand to mouth; the backlog only in every other run."""
    lagging = await field.project("lagging")
    live = [await field.project(f"live {n}") for n in range(10)]
    p50_ms: dict[bool, list[float]] = {False: [], True: []}
    rates: list[float] = []
    for _ in range(rounds):
        for catching_up in (False, True):
            for project_id in live:
                await field.connector(project_id, "/timed/live")
            if catching_up:
                await field.connector(lagging, "/ok/lagging")
                await field.happen(lagging, behind)
            async with worker(field.rig, valkey, "dispatcher", UNDER_TEST):
                await field.trickle(live, 500, 1)
                await field.until(1, "/timed/")
                # What the backlog delivered by now counts for its own end.
                field.forget("/timed/")
                await field.trickle(live, 500, seconds)
                await asyncio.sleep(0.5)
                await field.until(1, "/timed/")
                p50_ms[catching_up].append(field.seen()["/timed/live"]["p50_ms"])
                if catching_up:
                    await field.until(min(behind, CAUGHT_UP), "/ok/")
                    seen = field.seen()["/ok/lagging"]
                    rates.append(seen["count"] / (seen["last_at"] - seen["first_at"]))
            await field.clear()
    alone, meanwhile, rate = median(p50_ms[False]), median(p50_ms[True]), median(rates)
    report.add("delivery", f"a connector {behind:,} events behind catches up", f"{rate:,.0f}/s", rate=rate)
    report.add("delivery", "live ones, alone", f"p50 {alone:.0f} ms", all=p50_ms[False])
    report.add("delivery", "live ones, meanwhile", f"p50 {meanwhile:.0f} ms", all=p50_ms[True])
    report.ratio("live_beside_catching_up", meanwhile / alone, at_most=1.25)
    return {"live_beside_catching_up": meanwhile / alone, "catching_up_rate": rate}


async def _ten_connectors(
    field: Field, valkey: EmbeddedValkey, report: Report, rounds: int, seconds: float
) -> dict[str, float]:
    """Messages a second that an edge takes and a flusher stores, for a project with ten connectors and with none."""
    url, edge = field.rig.edge(valkey, UNDER_TEST)
    rates: dict[int, list[float]] = {0: [], 10: []}
    async with worker(field.rig, valkey, "flusher", REST):
        await until_ready(url)
        devices = field.rig.folder / "devices.txt"
        for number in range(rounds):
            for connectors in (0, 10) if number % 2 else (10, 0):
                for _ in range(connectors):
                    await field.connector(field.rig.project_id, "/ok/ten")
                taken = await load.closed(url, devices, connections=64, seconds=seconds)
                rates[connectors].append(taken.rate)
                await field.until_flushed(valkey)
                await field.clear()
    edge.stop()
    ratio = median(rates[10]) / median(rates[0])
    report.ratio("ingest_with_ten_connectors", ratio, at_least=0.95)
    return {"ingest_with_ten_connectors": ratio}


async def _bare(field: Field, bodies: Any, seconds: float) -> float:
    words = [sys.executable, "-m", "bench.bare_client", f"{field.url}/ok/bare", str(bodies), f"--seconds={seconds}"]
    process = await asyncio.create_subprocess_exec(*pinned(UNDER_TEST, *words), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, "the bare client failed"
    return float(output)
