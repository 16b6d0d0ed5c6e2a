"""`make bench`: ours beside the limit and the peers, in one run, as ratios.

    python -m bench                      everything, about 25 minutes
    python -m bench --only telemetry     one workload
    python -m bench --quick              shorter and rougher, for a look while working
    python -m bench --smoke              a moment of each: that all of it runs here; its figures say nothing
    python -m bench --only end_to_end --seconds 600     a million devices once a minute, for ten minutes
    python -m bench --only connectors --behind 20000000 --keep FOLDER
                                         a neighbour of a connector that is as far behind. What was made stays in the
                                         folder: who ended the run goes on with it, and the next one begins at once
    python -m bench --only upkeep --devices 1000000      a million devices go offline, as many commands go
    python -m bench --only outages --outage 600          receivers that go away for up to ten minutes: half an hour
    python -m bench --only followers                     the tail for 10,000 projects, attempts of 1,000 connectors
    python -m bench --only replicas                      what it costs that a 2xx waits for a replica of Redis
    python -m bench --only history --events 100000000   a hundred million behind a page: 60 GB of disk, half an hour
    python -m bench --only archive --events 10000000     closed days as files, beside ten million events: ten minutes
    python -m bench --only portal                        the first byte of every page, with a million devices behind it,
                                         and telemetry beside the live pages of 200 people; with --keep FOLDER too,
                                         since the fleet takes a quarter of an hour to make

Results go to bench/results/; latest.json holds the named ratios.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import NamedTuple

from bench import (
    archive,
    connectors,
    delivery,
    download,
    end_to_end,
    flush,
    followers,
    history,
    idle,
    large_file,
    mass,
    neighbour,
    outages,
    portal,
    replicas,
    resting,
    rollout,
    rules,
    sync,
    telemetry,
    tenants,
    upkeep,
)
from bench.results import Report
from bench.rig import rig

WORKLOADS = (
    "telemetry",
    "replicas",
    "mass",
    "idle",
    "resting",
    "flush",
    "rules",
    "neighbour",
    "end_to_end",
    "delivery",
    "connectors",
    "outages",
    "tenants",
    "sync",
    "history",
    "archive",
    "portal",
    "upkeep",
    "followers",
    "download",
    "rollout",
)
FEW = 300_000
"""Devices of the workloads that do not depend on how many there are."""
FLEET = 100_000
"""Devices that firmware is rolled out to."""


class Size(NamedTuple):
    """How much is measured: rounds, and seconds of each; devices, seconds end to end, events behind a page and behind a
    connector, the longest outage of a receiver."""

    rounds: int
    round_s: float
    devices: int
    end_to_end_s: float
    events: int
    behind: int
    outage_s: float
    keep: Path | None = None
    """Where the servers of a workload that needs much made are kept."""


FULL = Size(5, 5.0, 1_000_000, 60, 10_000_000, 1_000_000, 60)
QUICK = Size(1, 2.0, 100_000, 10, 1_000_000, 50_000, 10)
SMOKE = Size(1, 0.2, 5_000, 2, 200_000, 5_000, 1)


async def _run(only: list[str], size: Size, rate: float, *, kept: bool) -> None:
    report = Report()
    rounds, each_s, devices = size.rounds, size.round_s, size.devices
    few, fewer_rounds = min(FEW, devices), min(3, rounds)
    if "telemetry" in only:
        async with rig(few) as servers:
            await telemetry.run(servers, report, rounds=rounds, seconds=each_s)
    if "replicas" in only:
        async with rig(few) as servers:
            await replicas.run(servers, report, rounds=rounds, seconds=each_s)
    if "mass" in only:
        async with rig(devices) as servers:
            await mass.run(servers, report, rounds=rounds, seconds=each_s)
    if "idle" in only:
        async with rig(few) as servers:
            await idle.run(servers, report)
    if "resting" in only:
        await resting.run(report, seconds=size.end_to_end_s)
    if "flush" in only:
        async with rig(few) as servers:
            await flush.run(servers, report, rounds=rounds)
    if "rules" in only:
        async with rig(few) as servers:
            await rules.run(servers, report, rounds=rounds)
    if "neighbour" in only:
        async with rig(1_000) as servers:
            await neighbour.run(servers, report, seconds=2 * each_s)
    if "upkeep" in only:
        async with rig(devices) as servers:
            await upkeep.run(servers, report)
    if "followers" in only:
        async with rig(1_000) as servers:
            await followers.run(servers, report)
    if "rollout" in only:
        async with rig(min(FLEET, devices)) as servers:
            await rollout.run(servers, report, seconds=2 * each_s)
    if "end_to_end" in only:
        report.progress(f"registering {devices:,} devices")
        async with rig(devices) as servers:
            await end_to_end.run(servers, report, rate=rate, seconds=size.end_to_end_s)
    if "delivery" in only:
        async with rig(few) as servers:
            await delivery.run(servers, report, rounds=fewer_rounds, seconds=each_s, behind=size.behind)
    if "connectors" in only:
        async with rig(few, size.keep and size.keep / "fleetgate-bench-connectors") as servers:
            await connectors.run(servers, report, rounds=fewer_rounds, seconds=2 * each_s, behind=size.behind)
    if "outages" in only:
        async with rig(1_000) as servers:
            await outages.run(servers, report, rounds=fewer_rounds, longest_s=size.outage_s)
    if "tenants" in only:
        async with rig(1_000) as servers:
            await tenants.run(servers, report, rounds=fewer_rounds, seconds=2 * each_s, events=size.events // 10)
    if "sync" in only:
        async with rig(min(10_000, devices)) as servers:
            await sync.run(servers, report, rounds=fewer_rounds, devices=devices)
    if "history" in only:
        async with rig(size.events // history.EVENTS_OF_DEVICE) as servers:
            await history.run(servers, report)
    if "archive" in only:
        async with rig(min(1_000, devices)) as servers:
            await archive.run(servers, report, events=size.events, rounds=fewer_rounds)
    if "portal" in only:
        async with rig(devices, size.keep and size.keep / "fleetgate-bench-portal") as servers:
            await portal.run(servers, report, rounds=fewer_rounds, seconds=each_s)
    if "download" in only:
        async with rig(few) as servers:
            await download.run(servers, report, rounds=fewer_rounds, seconds=each_s)
            await large_file.run(servers, report, seconds=each_s)
    if kept:
        print(f"written to {report.write()}")


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="a workload; may be repeated")
    parser.add_argument(
        "--quick", dest="size", action="store_const", const=QUICK, default=FULL,
        help="one short round, 100,000 devices, 10 s end to end",
    )  # fmt: skip
    parser.add_argument(
        "--smoke", dest="size", action="store_const", const=SMOKE, help="a moment of each, 5,000 devices"
    )
    parser.add_argument("--rate", type=float, default=16_700, help="messages/s end to end (default 16,700)")
    parser.add_argument("--seconds", type=float, help="length of the end-to-end run (default 60)")
    parser.add_argument(
        "--devices", type=int, help="devices end to end, in a sync, in upkeep, behind the portal (default 1,000,000)"
    )
    parser.add_argument("--events", type=int, help="events in the log whose history is read (default 10,000,000)")
    parser.add_argument("--behind", type=int, help="events that a data connector is behind (default 1,000,000)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep what connectors and the portal have behind them in a folder"
    )
    parser.add_argument("--outage", type=float, help="the longest outage of a receiver in seconds (default 60)")
    arguments = parser.parse_args()
    size: Size = arguments.size
    size = size._replace(
        devices=arguments.devices or size.devices,
        end_to_end_s=arguments.seconds or size.end_to_end_s,
        events=arguments.events or size.events,
        behind=arguments.behind or size.behind,
        outage_s=arguments.outage or size.outage_s,
        keep=arguments.keep,
    )
    asyncio.run(_run(arguments.only or list(WORKLOADS), size, arguments.rate, kept=arguments.size is not SMOKE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
