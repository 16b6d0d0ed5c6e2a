"""Tasks of a dispatcher that come and go: attempts, reads. One that fails ends it; when it ends they are cancelled."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Spawn = Callable[[Coroutine[Any, Any, None]], object]
"""Starts a task."""


class Requesting:
    """What starts them, while `run` runs."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start one."""
        self._group.create_task(work)

    async def run(self) -> None:
        """Until cancelled, and with it every one that is still under way."""
        async with self._group:
            await asyncio.Event().wait()
