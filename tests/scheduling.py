"""Which process runs which tests, and in which order: those that wait leave the cores to those that work."""

from collections.abc import Iterable

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = ("tests/e2e/", "tests/portal/")
"""Folders whose tests share a whole stack or a browser: they begin first, each in one process from end to end."""
WAITING = ("tests/faults/", "tests/integration/dispatcher/")
"""Folders whose tests wait for times to pass more than they work."""
SPREAD_OVER = 0.7
"""The part of the run over which those that wait are spread: what is long must not begin last."""


def unit_of(nodeid: str) -> str:
    """What one process runs without a pause: a folder of those above, else a file."""
    return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.split("::", 1)[0])


class Scheduling(LoadFileScheduling):
    """Gives each process the next unit whenever it is done with one."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def spread(names: Iterable[str]) -> list[str]:
    """The order of units: stacks first, and those that wait evenly among those that work."""
    together, waiting, working = [], [], []
    for name in dict.fromkeys(names):
        (together if name in TOGETHER else waiting if name.startswith(WAITING) else working).append(name)
    step = max(1, int(len(working) * SPREAD_OVER / max(1, len(waiting))))
    order = list(together)
    for place, name in enumerate(working):
        if place % step == 0 and waiting:
            order.append(waiting.pop(0))
        order.append(name)
    return order + waiting


def arrange(items: list[pytest.Item]) -> None:
    """Put the tests into that order."""
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        units.setdefault(unit_of(item.nodeid), []).append(item)
    items[:] = [item for name in spread(units) for item in units[name]]
