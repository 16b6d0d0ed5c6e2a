"""Long work on connectors' queues, in slices: replays, synchronizations, the end of what disabled connectors owed.

The jobs of this process's slots take turns, of each connector the oldest; whatever they are, they get no more than a
third of one connection's time, so that Postgres and the loop are left to deliveries. Two processes may hold a slot for
a moment: a slice locks its job, and finds the place where the other has left it.
"""

import asyncio
import contextlib
import logging
import time

from schemas import logs
from schemas.archive.listing import DamagedError
from schemas.blobs.store import BlobsAway, NoBlobError
from schemas.postgres import PostgresAway
from workers.dispatcher import slices, store
from workers.dispatcher.moved import MovedEvents
from workers.dispatcher.roster import Roster, slot_of
from workers.dispatcher.session import Session

log = logging.getLogger(__name__)

RECHECK_S, QUIET_RECHECK_S = 1.0, 5.0
"""A connector was held, a queue full, or a notification lost with its connection: then jobs are looked at again, and
where there were none, less often."""
PAUSES = 2
"""So many times as long as a slice took nothing is done after it."""
PAUSE_MIN_S = 0.002
RETRY_S = 0.25


class Jobs:
    """Works on the jobs of this process's connectors."""

    def __init__(self, session: Session, roster: Roster, moved: MovedEvents, *, alone: bool) -> None:
        """`alone` says whether a statement may look at one shard only."""
        self._session = session
        self._alone = alone
        self._roster = roster
        self._moved = moved
        self._told = asyncio.Event()
        self._quiet = False
        """Whether there were none at all, of nobody, at the last look."""

    def __repr__(self) -> str:
        return f"<Jobs {self._roster!r}>"

    def wake(self) -> None:
        """There may be one now."""
        self._told.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. A Postgres that is away is asked again."""
        while not stop.is_set():
            self._told.clear()
            try:
                while not stop.is_set() and await self.turn():
                    pass
            except PostgresAway as error:
                logs.event(log, logging.WARNING, "jobs_deferred", cause=repr(error))
                await self._session.drop()
                await asyncio.sleep(RETRY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_RECHECK_S if self._quiet else RECHECK_S):
                    await self._told.wait()

    async def close(self) -> None:
        """Close its connection, when it runs no more."""
        await self._session.drop()

    async def turn(self) -> bool:
        """One slice for each connector that has a job; returns whether anything was done."""
        connection = await self._session.get()
        worked = False
        jobs = await store.jobs(connection)
        self._quiet = not jobs
        for job_id, connector_id in jobs:
            if slot_of(connector_id) not in self._roster.slots:
                continue
            began = time.monotonic()
            try:
                piece = await self._moved.piece(connection, job_id)
                done = await slices.work(connection, job_id, connector_id, piece, alone=self._alone)
            except (BlobsAway, NoBlobError, DamagedError) as error:
                logs.event(log, logging.WARNING, "job_deferred", connector=connector_id, job=job_id, cause=repr(error))
                continue
            except PostgresAway as error:
                # One that reads of a node that is away waits for it, and holds up no others.
                if connection.is_closed():
                    raise
                logs.event(log, logging.WARNING, "job_deferred", connector=connector_id, job=job_id, cause=str(error))
                continue
            if done.ended:
                logs.event(log, logging.INFO, "job_done", connector=connector_id, job=job_id)
            worked = worked or done.worked
            await asyncio.sleep(max(PAUSE_MIN_S, PAUSES * (time.monotonic() - began)))
        return worked
