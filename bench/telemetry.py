"""Single telemetry messages on one edge process and one core, beside servers that do nothing with them.

Every round measures each of them once, so what disturbs the machine disturbs all alike; figures are medians of the
rounds.
"""

from statistics import median

from bench import bare_store, load, peers
from bench.results import Report
from bench.rig import Rig, open_shards, until_ready

CONNECTIONS = (64, 512)
STORE = "bare clients of the store, fsync always"


async def run(rig: Rig, report: Report, *, rounds: int, seconds: float) -> None:
    """Measure requests/s and name the two ratios that count."""
    devices = rig.folder / "devices.txt"
    valkeys = {fsync: rig.valkey(fsync) for fsync in ("always", "everysec")}
    targets = {}
    for fsync, valkey in valkeys.items():
        await open_shards(valkey)
        targets[f"ours, fsync {fsync}"], _ = rig.edge(valkey)
        await until_ready(targets[f"ours, fsync {fsync}"])
    targets["empty uvicorn app"] = peers.uvicorn(rig, "empty")
    targets["empty Starlette route"] = peers.uvicorn(rig, "starlette")
    if url := peers.nginx(rig):
        targets["nginx return 200"] = url
    rates: dict[tuple[str, int], list[float]] = {}
    p99s: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        for connections in CONNECTIONS:
            for name, url in targets.items():
                outcome = await load.closed(url, devices, connections=connections, seconds=seconds)
                assert outcome.accepted == outcome.answered, f"{name}: {outcome.statuses}"
                rates.setdefault((name, connections), []).append(outcome.rate)
                p99s.setdefault((name, connections), []).append(outcome.p99_ms)
            bare = await bare_store.rate(valkeys["always"].port, clients=connections, seconds=seconds)
            rates.setdefault((STORE, connections), []).append(bare)
            for valkey in valkeys.values():
                await open_shards(valkey)
        report.progress(f"telemetry: round {number + 1} of {rounds}")
    for (name, connections), found in rates.items():
        report.add(
            "telemetry",
            f"{name}, {connections} connections",
            f"{median(found):,.0f}/s",
            rate=median(found),
            rates=found,
            p99_ms=median(p99s.get((name, connections), [0.0])),
        )

    def ratio(peer: str) -> float:
        """The worse of both numbers of connections, fsync always."""
        ours = "ours, fsync always"
        return min(median(rates[ours, c]) / median(rates[peer, c]) for c in CONNECTIONS)

    for connections in CONNECTIONS:
        for peer in (*list(targets)[2:], STORE):
            value = median(rates["ours, fsync always", connections]) / median(rates[peer, connections])
            report.add("telemetry", f"ours ÷ {peer}, {connections} connections", f"{value:.2f} ×", ratio=value)
    few = CONNECTIONS[0]
    vs_store = median(rates["ours, fsync always", few]) / median(rates[STORE, few])
    report.ratio("telemetry_vs_bare_store", vs_store, at_least=0.8)
    report.ratio("telemetry_vs_empty_asgi", ratio("empty uvicorn app"), at_least=1.8)
    if "nginx return 200" in targets:
        report.ratio("telemetry_vs_nginx", ratio("nginx return 200"), at_least=0.55)
