"""Messages that come many in a request, against one message a request, on the same edge and the same connections."""

from statistics import median

from bench import load
from bench.results import Report
from bench.rig import Rig, open_shards, until_ready

MESSAGES = 100
CONNECTIONS = 16


async def run(rig: Rig, report: Report, *, rounds: int, seconds: float) -> None:
    """Measure messages/s of both."""
    devices = rig.folder / "devices.txt"
    valkey = rig.valkey("always")
    await open_shards(valkey)
    url, _ = rig.edge(valkey)
    await until_ready(url)
    single: list[float] = []
    mass: list[float] = []
    for number in range(rounds):
        outcome = await load.generate(url, devices, connections=CONNECTIONS, seconds=seconds)
        single.append(outcome.rate)
        outcome = await load.generate(url, devices, connections=CONNECTIONS, seconds=seconds, mass=MESSAGES)
        assert outcome.accepted == outcome.answered, outcome.statuses
        mass.append(outcome.rate * MESSAGES)
        await open_shards(valkey)
        report.progress(f"mass telemetry: round {number + 1} of {rounds}")
    report.add("mass", f"single, {CONNECTIONS} connections", f"{median(single):,.0f}/s", rate=median(single))
    report.add(
        "mass", f"{MESSAGES} in a request, {CONNECTIONS} connections", f"{median(mass):,.0f}/s", rate=median(mass)
    )
    report.ratio("mass_vs_single", median(mass) / median(single), at_least=5)
