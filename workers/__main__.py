"""`python -m workers`: one worker process, from its settings."""

import gc

gc.disable()  # until `main` runs: nothing that is imported is garbage, and looking for it is an eighth of the start

import argparse
import asyncio
import os
import resource
import signal
import sys

import msgspec
import uvloop

from schemas import logs
from schemas.environment import listing, load
from schemas.metrics import Metrics
from schemas.settings import SettingsError, WorkerSettings
from workers import own_process, service
from workers.checkpoints import die_at

GC_THRESHOLDS = (100_000, 50, 1_000)
"""A worker makes many objects that live shortly and few cycles: looking for those less often saves a tenth. Those of a
batch are some tens of thousands, which are gone before they are looked at."""

ARCHIVER_NICE = 10


async def _serve(settings: WorkerSettings, dying_at: str, *, has_parent: bool) -> None:
    stop = asyncio.Event()
    # What reloads the edges of a machine, or the end of a terminal, is no reason to end; roles with processes of their
    # own inherit this.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    roles, others = own_process.split(settings.roles)
    alone = [asyncio.create_task(own_process.keep(role, stop), name=role) for role in others]
    if roles == "archiver":
        os.nice(ARCHIVER_NICE)
    parent = asyncio.create_task(own_process.parent_ended(), name="parent") if has_parent else None
    for task in (*alone, parent):
        if task is not None:
            task.add_done_callback(lambda _: stop.set())
    try:
        await service.run(msgspec.structs.replace(settings, worker_roles=roles), Metrics(), stop, die_at(dying_at))
    finally:
        stop.set()
        await asyncio.gather(*alone)


def main() -> int:
    """Work until SIGTERM; 2 when a setting is wrong."""
    gc.enable()
    gc.freeze()
    parser = argparse.ArgumentParser(
        prog="fleetgate worker",
        description="One worker process: does what goes on behind the edges, from its settings, until SIGTERM.",
        epilog=listing(WorkerSettings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--die-at", default="", help=argparse.SUPPRESS)  # for crash tests: a flusher's checkpoint
    parser.add_argument("--until-parent-ends", action="store_true", help=argparse.SUPPRESS)  # for `workers.own_process`
    arguments = parser.parse_args()
    try:
        settings = load(WorkerSettings, os.environ)
        logs.configure("worker", settings.log_level)
        gc.set_threshold(*GC_THRESHOLDS)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        uvloop.run(_serve(settings, arguments.die_at, has_parent=arguments.until_parent_ends))
    except SettingsError as error:
        print(f"fleetgate worker: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
