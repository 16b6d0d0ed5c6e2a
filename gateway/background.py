"""The loops that run beside an edge's requests. One that dies ends the process with its cause.

An edge that went on without one would say that it is ready and be half of an edge: without shedding, without a clock,
without its connections to Redis. So it finishes the requests it has and goes; the supervisor starts another.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from schemas import logs

log = logging.getLogger(__name__)

CANCEL_AGAIN_S = 1.0


class Background:
    """Runs loops until it is stopped; calls `end` when one ends before that."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.cause: BaseException | None = None
        """The error that ended the first loop, or that kept the loops from being started."""
        self._end = end
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Background {[task.get_name() for task in self._tasks]} cause={self.cause!r}>"

    def start(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        """Run a loop."""
        task = asyncio.create_task(loop, name=name)
        self._tasks.append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            error: BaseException = asyncio.CancelledError("cancelled by itself")
        else:
            error = task.exception() or RuntimeError("it returned")
        logs.failure(log, logging.CRITICAL, "loop_died", error, loop=task.get_name())
        self.cause = self.cause or error
        self._end()

    async def stop(self) -> None:
        """Cancel what still runs, and wait for its end.

        Again and again: a library that waits with a time limit of its own may lose a cancellation (Python 3.11).
        """
        running = set(self._tasks)
        while running:
            for task in running:
                task.remove_done_callback(self._ended)
                task.cancel()
            _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
        await asyncio.gather(*self._tasks, return_exceptions=True)
