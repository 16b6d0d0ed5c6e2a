"""Turns of a loop that leaves the machine to others: behind each it rests, so that it takes a share of the time.

What nobody waits for (firmware for a whole fleet) is work for minutes, of Postgres and of the flusher as well; all
devices send telemetry meanwhile. A share of time holds on any machine, where a number of devices a second would not.
What is done in a moment, for a small fleet, is done at once: the rest is owed, and taken when more has been done than
`BURST_S`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BURST_S = 0.2
"""Work that is done without resting, after a time in which there was little."""


class Turns:
    """Turns of at most the share of `longest_s`."""

    def __init__(self, share: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._longest_s = longest_s
        self._clock = clock
        self._paid_at = clock()
        """When all that was done is within the share."""

    @contextmanager
    def turn(self) -> Iterator[Callable[[], bool]]:
        """Take a turn; what is given says whether to go on with it: never, while the loop rests."""
        began = self._clock()
        if self._paid_at - began > BURST_S / self._share:
            yield lambda: False
            return
        until = began + self._longest_s * self._share
        try:
            yield lambda: self._clock() < until
        finally:
            self._paid_at = max(self._paid_at, began) + (self._clock() - began) / self._share
