"""Looks for connectors that owe something, may send it, and have not begun anything for a while: a fault of ours.

Everything that sends is woken by something: an event, an end, a timer. Should a wake-up be lost all the same, the
connector would stand still until somebody changed it, and nobody would know. So this asks from outside, and by other
means than those that wake: what memory holds, and which rows Postgres says are due. What it finds it counts, logs and
sends on its way. In a process that works it finds nothing.
"""

import logging
import time
from collections.abc import Callable

from schemas import logs
from schemas.metrics import Metrics
from schemas.placement import Placement
from schemas.postgres import Pool
from workers.dispatcher import store
from workers.dispatcher.connector import Connector
from workers.dispatcher.lanes import Lanes
from workers.dispatcher.roster import Roster

log = logging.getLogger(__name__)

INTERVAL_S = 5.0
STALLED_S = 15.0
"""At rest for so long with something to send: far beyond every interval at which somebody looks."""
OVERDUE_S = 60.0
"""Longer than the feeder takes to look at rows of its own accord."""


class StallSweep:
    """Looks after the connectors of this process."""

    def __init__(
        self,
        pool: Pool,
        roster: Roster,
        lanes: Lanes,
        metrics: Metrics,
        clock: Callable[[], float],
        placement: Placement,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._roster = roster
        self._lanes = lanes
        self._metrics = metrics
        self._clock = clock
        self._placement = placement
        self._monotonic = monotonic
        self._resting: dict[Connector, tuple[int, float]] = {}
        """How much each had begun when it was first seen at rest, and when that was."""

    def overlooked(self) -> list[Connector]:
        """Connectors that nothing will wake; between two callbacks there are none."""
        return [connector for connector in self._roster.connectors.values() if self._lanes.overlooked(connector)]

    async def sweep(self) -> None:
        """Find, count, tell and wake those that stand still; while a node is away nobody can say which do."""
        if self._placement.away():
            self._resting = {}
            return
        now = self._monotonic()
        idle = [c for c in self._roster.connectors.values() if not (c.leaving or c.pace.paused(now))]
        overdue = await self._overdue([c for c in idle if not (c.lanes or c.queue.has_work())])
        resting: dict[Connector, tuple[int, float]] = {}
        for connector in idle:
            if not (self._lanes.overlooked(connector) or connector.hungry() or connector.id in overdue):
                continue
            begun, since = self._resting.get(connector, (connector.begun, now))
            if begun != connector.begun:
                begun, since = connector.begun, now
            if now - since < STALLED_S:
                resting[connector] = begun, since
                continue
            self._metrics.connectors_stalled.inc()
            logs.event(log, logging.ERROR, "connector_stalled", connector=connector.id, state=repr(connector))
            connector.due_in(0)
            self._lanes.pump(connector)
        self._resting = resting

    async def _overdue(self, connectors: list[Connector]) -> set[str]:
        """Those with rows that have been due for long and that memory does not hold."""
        if not connectors:
            return set()
        loaded = [row_id for connector in connectors for row_id in connector.queue.loaded]
        before = store.moment(self._clock() - OVERDUE_S)
        return await store.overdue(self._pool, [connector.id for connector in connectors], loaded, before)
