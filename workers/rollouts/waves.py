"""A wave's gate and its end: when it fires, when the next wave may begin. Decides, and does nothing.

    pending → open ⇄ soaking → passed          soaking → waiting ─(a person)→ passed

A gate fires once in a wave, and only on what devices of that wave reported: how many succeeded, and how many failed. A
device that never began is no report, whatever became of it; one that began and was not heard of again has failed.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from schemas.rollouts import OPEN, OnFailure, OnSuccess, PartState, WaveStatus


class Count(NamedTuple):
    """Devices in a state, and how many of them had begun."""

    devices: int = 0
    begun: int = 0


Counts = Mapping[PartState, Count]
_NONE = Count()


class Gate(Struct, frozen=True, kw_only=True):
    """What is too much. Percentages count from `min_reported` reports on, and from the first one at the least."""

    min_reported: int = 0
    failed_percent: float | None = None
    failed_count: int | None = None
    on_failure: OnFailure = "pause"
    on_success: OnSuccess = "next"


class Wave(Struct, frozen=True, kw_only=True):
    """How far a wave is."""

    number: int
    status: WaveStatus
    gate: Gate
    soak: timedelta
    fired: bool = False
    """Whether its gate has fired: whoever resumed the rollout knows."""
    soaking_since: datetime | None = None


class Reports(NamedTuple):
    """What devices of a wave reported."""

    all: int
    failed: int


def reports(counts: Counts) -> Reports:
    """From the counts of a wave."""
    failed = counts.get("failed", _NONE).devices + counts.get("timed_out", _NONE).begun
    return Reports(counts.get("succeeded", _NONE).devices + failed, failed)


def at_work(counts: Counts) -> int:
    """Devices of a wave whose part has no outcome yet."""
    return sum(counts.get(state, _NONE).devices for state in ("waiting", *OPEN))


def fires(wave: Wave, counts: Counts) -> OnFailure | None:
    """What the gate asks for now; None while it is quiet, and once it has fired."""
    gate, told = wave.gate, reports(counts)
    if wave.fired or wave.status not in ("open", "soaking", "waiting"):
        return None
    if gate.failed_count is not None and told.failed >= gate.failed_count:
        return gate.on_failure
    enough = told.all >= max(gate.min_reported, 1)
    if gate.failed_percent is not None and enough and told.failed * 100 >= gate.failed_percent * told.all:
        return gate.on_failure
    return None


def next_status(wave: Wave, counts: Counts, *, filled: bool, now: datetime) -> WaveStatus:
    """Where an open wave stands: one whose devices are all through soaks, and then passes or waits for a person.

    `filled` says that no device can come into it any more.
    """
    if wave.status not in ("open", "soaking"):
        return wave.status
    if at_work(counts) or not filled:
        return "open"
    if wave.status == "open" or wave.soaking_since is None:
        return "soaking"
    if now < wave.soaking_since + wave.soak:
        return "soaking"
    return "waiting" if wave.gate.on_success == "wait" else "passed"
