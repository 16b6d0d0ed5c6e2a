"""What a stored message costs: µs of a core in each process, bytes of WAL, bytes on disk.

Time of a core hardly minds what else the machine does, so these figures can be compared from day to day.
"""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import psutil

from bench.results import Report
from schemas.postgres import Executor


def cpu_s(pid: int) -> float:
    """What a process and all that it started have used of a core by now, also those of them that ended."""
    process = psutil.Process(pid)
    used = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # its time was added to its parent's
            used += own_cpu_s(one)
    return used


def own_cpu_s(process: psutil.Process) -> float:
    """What a process, and those of its children that ended, have used by now."""
    return float(sum(process.cpu_times()[:4]))


class Cost(NamedTuple):
    """Of one message: µs of a core by process, and bytes of WAL."""

    us: dict[str, float]
    wal_bytes: float

    def __str__(self) -> str:
        named = ", ".join(f"{name} {us:.1f}" for name, us in self.us.items())
        return f"{named}: {sum(self.us.values()):.1f} µs; WAL {self.wal_bytes:,.0f} bytes"


class Meter:
    """Measures between `begin` and `end`; `pids` are the processes by name."""

    def __init__(self, executor: Executor, pids: Mapping[str, int]) -> None:
        self._executor = executor
        self._pids = pids
        self._used: dict[str, float] = {}
        self._wal = 0

    async def begin(self) -> None:
        """Measure from now on."""
        self._wal = await self._wal_bytes()
        self._used = {name: cpu_s(pid) for name, pid in self._pids.items()}

    async def end(self, messages: int) -> Cost:
        """What each of so many messages has cost since the beginning."""
        us = {name: 1e6 * (cpu_s(pid) - self._used[name]) / messages for name, pid in self._pids.items()}
        return Cost(us, (await self._wal_bytes() - self._wal) / messages)

    async def _wal_bytes(self) -> int:
        written: int = await self._executor.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        return int(written)


async def report_size(executor: Executor, report: Report, section: str) -> None:
    """Bytes on disk of an event: its row, and all indexes of the log."""
    row = await executor.fetchrow(
        """SELECT sum(pg_table_size(inhrelid)) / (SELECT count(*) FROM events) AS heap,
                  sum(pg_indexes_size(inhrelid)) / (SELECT count(*) FROM events) AS indexes
             FROM pg_inherits WHERE inhparent = 'events'::regclass""",
        timeout=300,
    )
    assert row is not None
    heap, indexes = float(row["heap"]), float(row["indexes"])
    shown = f"{heap:.0f} + {indexes:.0f} bytes"
    report.add(section, "an event on disk: row + indexes", shown, heap=heap, indexes=indexes)
