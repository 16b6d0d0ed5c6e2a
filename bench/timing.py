"""How long one step takes, where it is measured in this process."""

import time
from collections.abc import Awaitable, Callable
from statistics import median


async def median_s(rounds: int, step: Callable[[], Awaitable[object]]) -> float:
    """The median of so many in turn, in seconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        await step()
        times.append(time.perf_counter() - began)
    return median(times)
