"""Asks Postgres, once for all loops of a worker, which of them have something to do, and wakes those.

    one statement ──▶ commands due? replies queued? a rollout under way? … ──▶ a step of each loop whose answer is yes

A loop that asked by itself would ask as often and find nothing as often: with a dozen of them a worker at rest did
little else. Each says beside its own statements what is due (`DUE`). The answer is a hint only, so that one that is
wrong delays and loses nothing: every loop takes a step now and then whatever was answered.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from schemas.postgres import Pool
from workers.schedule import attempt, every

INTERVAL_S = 0.5
SWEEP_S = 60.0
"""How often each loop takes a step without being asked to."""

Step = Callable[[], Awaitable[object]]


async def run(pool: Pool, steps: Mapping[str, Step], stop: asyncio.Event) -> None:
    """Take the step of each condition, an expression of SQL, while it holds, until `stop` is set.

    Each step by itself, one at a time: one that takes long holds up no other. All are taken once at the beginning.
    """
    events = {condition: asyncio.Event() for condition in steps}
    statement = f"SELECT {', '.join(events)}"
    swept_at = -SWEEP_S

    async def look() -> None:
        nonlocal swept_at
        if time.monotonic() - swept_at >= SWEEP_S:
            swept_at = time.monotonic()
            _tell(events.values())
            return
        row = await pool.fetchrow(statement)
        assert row is not None
        _tell(event for event, is_due in zip(events.values(), row, strict=True) if is_due)

    async with asyncio.TaskGroup() as group:
        for condition, step in steps.items():
            group.create_task(_follow(events[condition], step, stop), name=getattr(step, "__qualname__", repr(step)))
        await every(INTERVAL_S, look, stop)
        _tell(events.values())


def _tell(due: Iterable[asyncio.Event]) -> None:
    for event in due:
        event.set()


async def _follow(due: asyncio.Event, step: Step, stop: asyncio.Event) -> None:
    while True:
        await due.wait()
        if stop.is_set():
            return
        due.clear()
        await attempt(step)
