"""Test events for connectors that are not ACTIVE: sent once, noted, and no part of any queue or ledger."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from schemas import logs
from schemas.postgres import Pool, PostgresAway
from workers.dispatcher import store
from workers.dispatcher.configurations import Configurations
from workers.dispatcher.delivery import Delivery
from workers.dispatcher.journal import Journal
from workers.dispatcher.lanes import Lanes, event_id_of
from workers.dispatcher.roster import Roster, slot_of

log = logging.getLogger(__name__)

RECHECK_S = 5.0
"""A notification may have been lost with its connection."""


class TestEvents:
    """Sends the test events of this process's slots that wait for nobody else."""

    def __init__(
        self,
        pool: Pool,
        roster: Roster,
        configurations: Configurations,
        lanes: Lanes,
        journal: Journal,
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._roster = roster
        self._configurations = configurations
        self._lanes = lanes
        self._journal = journal
        self._clock = clock
        self._told = asyncio.Event()

    def wake(self) -> None:
        """There may be one now."""
        self._told.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send them until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_S):
                    await self._told.wait()
            self._told.clear()
            try:
                mine = [i for i in await store.tested(self._pool) if slot_of(i) in self._roster.slots]
                for row in await store.claim_tests(self._pool, mine) if mine else ():
                    self._lanes.spawn(self._send(row))
            except PostgresAway as error:
                logs.event(log, logging.WARNING, "tests_deferred", cause=repr(error))

    async def _send(self, row: store.TestEvent) -> None:
        target = self._configurations.target(row.connector)
        if target is None:
            return
        delivery = Delivery(None, self._clock())
        delivery.test = True
        delivery.waiting_id = row.id
        delivery.attempts = 1
        delivery.event_id = event_id_of(row.body)
        delivery.began = time.monotonic()
        requests = self._configurations.requests(target)
        answer = await self._lanes.send(requests, delivery.event_id, row.body)
        self._journal.note(row.connector["id"], delivery, answer, self._clock())
