"""Fewer requests at once when this process, not the receivers, is what is short.

With the core busy, more requests under way make nothing faster: they wait in sockets instead of in queues, and every
turn of the event loop takes longer for all (measured: 256 requests at once cost a third more time each than 64). So the
lanes of each connector are capped while the process uses all of its core and the loop's turns are long, and set free
again when they are not. A core shared with others, where turns are long but little of it is ours, caps nothing.
"""

import asyncio
import time

TICK_S = 0.02
BUSY = 0.85
"""The share of a core that counts as all of it."""
LONG_TURN_S = 0.003
LANES_MIN = 4


class Governor:
    """The cap on each connector's lanes."""

    def __init__(self, lanes_max: int) -> None:
        self.lanes = lanes_max
        self._max = lanes_max
        self._turn_s = 0.0
        self._cpu_s = 0.0
        self._at = 0.0

    def __repr__(self) -> str:
        return f"<Governor lanes={self.lanes} turn={1000 * self._turn_s:.1f} ms>"

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until `stop` is set."""
        self._cpu_s, self._at = time.process_time(), time.perf_counter()
        while not stop.is_set():
            before = time.perf_counter()
            await asyncio.sleep(TICK_S)
            self.adjust(time.process_time(), time.perf_counter(), time.perf_counter() - before - TICK_S)

    def adjust(self, cpu_s: float, now: float, late_s: float) -> None:
        """A timer came late by so much, with so much of the core used since the last."""
        busy = (cpu_s - self._cpu_s) / max(now - self._at, 1e-9)
        self._cpu_s, self._at = cpu_s, now
        self._turn_s += (late_s - self._turn_s) / 4
        if busy > BUSY and self._turn_s > LONG_TURN_S:
            self.lanes = max(min(LANES_MIN, self._max), self.lanes * 7 // 8)
        elif self.lanes < self._max:
            self.lanes = min(self._max, self.lanes + 1 + self.lanes // 8)
