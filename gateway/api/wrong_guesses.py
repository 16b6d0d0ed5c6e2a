"""Limits for what may be guessed: wrong ones count, for several who answer for them, and all of these must wait.

The wait grows with persistence: after a few wrong guesses to the end of the minute, after some more to the end of the
hour, then of the day. Right ones are free.
"""

import asyncio
from collections.abc import Mapping

from gateway.api import fixed_window
from gateway.services import Services
from schemas import keys

WINDOWS = ((60, 1, "a minute"), (3600, 4, "an hour"), (86_400, 16, "a day"))
"""Seconds, how many times the limit of a minute, and the words for it."""


class Guesses:
    """How many wrong guesses of a kind are left, for each of those who answer for them."""

    def __init__(self, services: Services, what: str, whose: Mapping[str, int]) -> None:
        """`whose` are those who answer, each with its limit of a minute."""
        self._services = services
        self._counters = [
            (keys.of_caller(services.shards, what, f"{who}:{window_s}"), limit, window_s, times, window)
            for who, limit in whose.items()
            for window_s, times, window in WINDOWS
        ]

    async def check(self) -> None:
        """Raises TooMany when there were too many already."""
        for key, limit, _, times, window in self._counters:
            await fixed_window.look(self._services, key, calls_max=limit * times, window=window)

    async def wrong(self, number: int = 1) -> None:
        """Count wrong guesses: no more of a call than a minute's, so one wrong list is forgiven soon."""
        await asyncio.gather(
            *(
                fixed_window.add(self._services, key, window_s=window_s, calls=min(number, limit))
                for key, limit, window_s, _, _ in self._counters
            )
        )

    async def begin(self) -> None:
        """Count a guess as wrong until it is `right`: many at once are not all let through. Raises TooMany."""
        await self.check()
        for key, limit, window_s, times, window in self._counters:
            await fixed_window.count(self._services, key, calls_max=limit * times, window_s=window_s, window=window)

    async def right(self) -> None:
        """Take the guess back that was begun."""
        await asyncio.gather(*(fixed_window.give_back(self._services, key) for key, *_ in self._counters))
