"""What both comparisons with servers of others do alike: their arguments, the rounds in turn, the table of medians."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.peer_server import Description, descriptions
from bench.results import Report
from bench.sides import OURS, Side


class Figures(NamedTuple):
    """Of one side in one round."""

    named: dict[str, float]
    us: dict[str, float]
    """µs of a core for each message, by kind of process."""


class Arguments(NamedTuple):
    """What was asked for."""

    peers: dict[str, tuple[Description, Path]]
    rounds: int
    seconds: float
    warm_s: float
    connections: int
    devices: int
    rate: float
    drain_s: float
    fsync: str


async def compare(
    sides: list[Side], measure: Callable[[Side, float], Awaitable[Figures]], given: Arguments, report: Report
) -> None:
    """Every side warm, then in each round once each; medians, and what ours is to each of the others."""
    for side in sides:
        await measure(side, given.warm_s)
    report.progress("all are warm")
    found: dict[str, list[Figures]] = {side.name: [] for side in sides}
    for number in range(given.rounds):
        for side in sides:
            found[side.name].append(await measure(side, given.seconds))
        report.progress(f"round {number + 1} of {given.rounds}")
    for side in sides:
        for name in found[side.name][0].named:
            values = [figures.named[name] for figures in found[side.name]]
            report.add(side.name, name, f"{median(values):,.1f}", value=median(values), values=values)
        us = {kind: median(figures.us[kind] for figures in found[side.name]) for kind in side.pids}
        shown = ", ".join(f"{kind} {value:,.0f}" for kind, value in us.items())
        report.add(side.name, f"µs of a core a message: {shown}", f"{sum(us.values()):,.0f}", **us)
    for side in sides[1:]:
        for name in [name for name in found[OURS][0].named if name.endswith("a second")]:
            ratio = _median(found[OURS], name) / _median(found[side.name], name)
            report.ratio(f"{name}: ours ÷ {side.name}", ratio)


def _median(figures: list[Figures], name: str) -> float:
    return median(one.named[name] for one in figures)


def main(description: str | None, kind: str, run: Callable[[Arguments, Report], Awaitable[None]]) -> int:
    """Compare with the peers that were named, and say of the others how to get them."""
    known = descriptions(kind)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=EXECUTABLE", help=", ".join(known))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default 5)")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of load before the first round (default 3)")
    parser.add_argument("--connections", type=int, default=64, help="requests under way (default 64)")
    parser.add_argument("--devices", type=int, default=10_000, help="(default 10,000)")
    parser.add_argument("--rate", type=float, default=100.0, help="where a fixed rate is measured (default 100/s)")
    parser.add_argument("--drain", type=float, default=15.0, help="seconds without news after which no more is awaited")
    parser.add_argument("--fsync", choices=("always", "everysec"), default="always", help="of Valkey, on all sides")
    words = parser.parse_args()
    peers = {}
    for name, _, executable in (word.partition("=") for word in words.peer):
        if name not in known or not Path(executable).is_file():
            parser.error(f"--peer {name}=…: one of {', '.join(known)}, and a file")
        peers[name] = known[name], Path(executable).resolve()
    given = Arguments(
        peers, words.rounds, words.seconds, words.warm, words.connections, words.devices, words.rate, words.drain,
        words.fsync,
    )  # fmt: skip
    asyncio.run(_run(run, given))
    for name in known.keys() - peers.keys():
        print(f"not measured: {known[name].title}. To get it: {known[name].get}; then --peer {name}=EXECUTABLE")
    return 0


async def _run(run: Callable[[Arguments, Report], Awaitable[None]], given: Arguments) -> None:
    await run(given, Report())
