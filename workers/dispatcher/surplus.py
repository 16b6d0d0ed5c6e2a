"""Bounds what waits for one connector: a receiver that rejects everything would gather half a day of its events.

Beyond the limit (`connector_waiting_max`) those that failed most often end, counted as dropped. The others are tried
again as ever, and what a receiver does not answer at all never comes here: it stays in the log.
"""

import logging

from schemas import logs
from schemas.postgres import Pool
from workers.dispatcher import store
from workers.dispatcher.roster import Roster

log = logging.getLogger(__name__)

INTERVAL_S = 5.0
ROWS = 2_000
"""Of one connector in one transaction."""


class SurplusSweep:
    """Looks after the connectors of this process."""

    def __init__(self, pool: Pool, roster: Roster, waiting_max: int) -> None:
        self._pool = pool
        self._roster = roster
        self._max = waiting_max

    async def sweep(self) -> None:
        """End what is too much."""
        for connector_id in await store.overfull(self._pool, list(self._roster.connectors), self._max):
            total = 0
            async with self._pool.acquire() as connection:
                while dropped := await store.drop_surplus(connection, connector_id, self._max, ROWS):
                    total += dropped
            logs.event(log, logging.WARNING, "waiting_dropped", connector=connector_id, events=total)
