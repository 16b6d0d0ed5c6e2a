"""Fewer requests at once when this process, not the receivers, is what is short.

With the core busy, more requests under way make nothing faster: they wait in sockets instead of in queues, and every
turn of the event loop takes longer for all (measured: 256 requests at once cost a third more time each than 64). So the
lanes of each connector are capped while the process uses all of its core and the loop's turns are long, and set free
again when they are not. A core shared with others, where turns are long but little of it is ours, caps nothing.

Connectors that catch up with a backlog leave a third of the core to the others while those are up to date and busy:
events of a backlog are late anyway, those of the others need not be (measured: with all of the core taken, live events
arrived half again as late; with two thirds, no later than without a backlog). An endpoint far away, whose answers take
longer than our turns, costs little of the core and is not touched by either.
"""

import asyncio
import time
from collections.abc import Callable

TICK_S, QUIET_TICK_S = 0.02, 0.2
"""How often it measures, and how often while next to nothing of the core is used and nothing is capped."""
QUIET = 0.1
"""The share of a core that is next to nothing."""
BUSY, BACKLOG_BUSY = 0.85, 0.65
"""The shares of a core that count as all of it, and as enough of it while there is a backlog."""
LONG_TURN_S = 0.003
LANES_MIN, BACKLOG_LANES_MIN = 4, 1
LIVE_S = 0.5
"""Connectors that are up to date count as busy for so long after one of them sent something new."""


class Governor:
    """The cap on each connector's lanes."""

    def __init__(self, lanes_max: int) -> None:
        self.lanes = lanes_max
        self.backlog_lanes = lanes_max
        """Of connectors that catch up."""
        self.live_at = 0.0
        """Monotonic time at which a connector that is up to date sent something new."""
        self._max = lanes_max
        self._turn_s = 0.0
        self._busy = 0.0
        self._cpu_s = 0.0
        self._at = 0.0

    def __repr__(self) -> str:
        return f"<Governor lanes={self.lanes} turn={1000 * self._turn_s:.1f} ms>"

    async def run(self, stop: asyncio.Event, raised: Callable[[], None]) -> None:
        """Measure until `stop` is set; tells when it allows more than before."""
        self._cpu_s, self._at = time.process_time(), time.monotonic()
        while not stop.is_set():
            before = time.monotonic()
            is_quiet = self._busy < QUIET and self.backlog_lanes == self._max
            tick_s = QUIET_TICK_S if is_quiet else TICK_S
            await asyncio.sleep(tick_s)
            lanes, backlog_lanes = self.lanes, self.backlog_lanes
            self.adjust(time.process_time(), time.monotonic(), time.monotonic() - before - tick_s)
            if self.lanes > lanes or self.backlog_lanes > backlog_lanes:
                raised()

    def adjust(self, cpu_s: float, now: float, late_s: float) -> None:
        """A timer came late by so much, with so much of the core used since the last."""
        busy = (cpu_s - self._cpu_s) / max(now - self._at, 1e-9)
        self._cpu_s, self._at = cpu_s, now
        self._turn_s += (late_s - self._turn_s) / 4
        self._busy += (busy - self._busy) / 4
        self.lanes = self._moved(self.lanes, LANES_MIN, down=busy > BUSY and self._turn_s > LONG_TURN_S)
        yielding = self._busy > BACKLOG_BUSY and now < self.live_at + LIVE_S
        self.backlog_lanes = min(self.lanes, self._moved(self.backlog_lanes, BACKLOG_LANES_MIN, down=yielding))

    def _moved(self, lanes: int, least: int, *, down: bool) -> int:
        return max(min(least, self._max), lanes * 7 // 8) if down else min(self._max, lanes + 1 + lanes // 8)
