"""`make bench`: ours beside the limit and the peers, in one run, as ratios.

    python -m bench                      everything, about 25 minutes
    python -m bench --only telemetry     one workload
    python -m bench --quick              shorter and rougher, for a look while working
    python -m bench --only end_to_end --seconds 600     a million devices once a minute, for ten minutes
    python -m bench --only history --events 100000000   a hundred million behind a page: 60 GB of disk, half an hour

Results go to bench/results/; latest.json holds the named ratios.
"""

import argparse
import asyncio
import sys

from bench import delivery, end_to_end, flush, history, idle, mass, sync, telemetry
from bench.results import Report
from bench.rig import rig

WORKLOADS = ("telemetry", "mass", "idle", "flush", "end_to_end", "delivery", "sync", "history")


async def _run(only: list[str], quick: bool, devices: int, rate: float, seconds: float, events: int) -> None:
    report = Report()
    rounds, each_s = (1, 2.0) if quick else (5, 5.0)
    few = 300_000
    if "telemetry" in only:
        async with rig(few) as servers:
            await telemetry.run(servers, report, rounds=rounds, seconds=each_s)
    if "mass" in only:
        async with rig(devices) as servers:
            await mass.run(servers, report, rounds=rounds, seconds=each_s)
    if "idle" in only:
        async with rig(few) as servers:
            await idle.run(servers, report)
    if "flush" in only:
        async with rig(few) as servers:
            await flush.run(servers, report, rounds=rounds)
    if "end_to_end" in only:
        report.progress(f"registering {devices:,} devices")
        async with rig(devices) as servers:
            await end_to_end.run(servers, report, rate=rate, seconds=seconds)
    if "delivery" in only:
        async with rig(few) as servers:
            await delivery.run(
                servers, report, rounds=1 if quick else 3, seconds=each_s, behind=50_000 if quick else 1_000_000
            )
    if "sync" in only:
        async with rig(10_000) as servers:
            await sync.run(servers, report, rounds=1 if quick else 3, devices=devices)
    if "history" in only:
        async with rig(events // history.EVENTS_OF_DEVICE) as servers:
            await history.run(servers, report)
    print(f"written to {report.write()}")


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="a workload; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one short round, 100,000 devices, 10 s end to end")
    parser.add_argument("--rate", type=float, default=16_700, help="messages/s end to end (default 16,700)")
    parser.add_argument("--seconds", type=float, help="length of the end-to-end run (default 60)")
    parser.add_argument("--devices", type=int, help="devices end to end and in a sync (default 1,000,000)")
    parser.add_argument("--events", type=int, help="events in the log whose history is read (default 10,000,000)")
    arguments = parser.parse_args()
    quick = arguments.quick
    devices = arguments.devices or (100_000 if quick else 1_000_000)
    seconds = arguments.seconds or (10 if quick else 60)
    events = arguments.events or (1_000_000 if quick else 10_000_000)
    asyncio.run(_run(arguments.only or list(WORKLOADS), quick, devices, arguments.rate, seconds, events))
    return 0


if __name__ == "__main__":
    sys.exit(main())
