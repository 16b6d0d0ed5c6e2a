"""What somebody costs his neighbours: the same figure of a neighbour, in turns with him and without."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from statistics import median

from bench.results import Report

Beside = Callable[[], AbstractAsyncContextManager[None]]
"""What goes on while something is measured."""


async def compare(
    report: Report,
    section: str,
    besides: Mapping[str, Beside],
    measure: Callable[[], Awaitable[float]],
    *,
    rounds: int,
    at_most: float,
    decimals: int = 0,
) -> None:
    """Measure the neighbour's p99, in milliseconds, alone and beside each of them; the ratio of the medians."""
    for name, beside in besides.items():
        alone, together = [], []
        for _ in range(rounds):
            alone.append(await _measured(contextlib.nullcontext, measure))
            together.append(await _measured(beside, measure))
        without, with_it = median(alone), median(together)
        shown = f"p99 {without:.{decimals}f} → {with_it:.{decimals}f} ms"
        report.add(section, f"a neighbour beside {name}", shown, alone=alone, together=together)
        report.ratio(f"neighbour_p99_beside_{name.replace(' ', '_')}", with_it / without, at_most=at_most)


async def _measured(beside: Beside, measure: Callable[[], Awaitable[float]]) -> float:
    async with beside():
        return await measure()
