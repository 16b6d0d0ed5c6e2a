"""Writes down what became of deliveries: one transaction for all connectors that have something to tell.

The next commit begins when the last is done and something is there to tell; a short pause lets more come together,
unless some connector would have to stop for it. A commit whose answer was lost is repeated as it was: if it did arrive,
its epoch is no longer the one it expects, and the connector is read anew. What could not be told of a connector because
somebody holds its row is kept as it was and told again, while the others go on; until then it has no more requests open
or untold than it ever may.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from schemas import logs
from schemas.postgres import PostgresAway
from workers.checkpoints import Checkpoint
from workers.dispatcher import progress_store
from workers.dispatcher.connector import Connector
from workers.dispatcher.progress import Progress
from workers.dispatcher.roster import Roster
from workers.dispatcher.session import Session
from workers.dispatcher.store import moment

log = logging.getLogger(__name__)

PAUSE_S = 0.02
CONNECTORS_MAX = 500
RETRY_S = 0.25
HELD_S = 0.1
"""A connector that somebody held is tried again after this."""
QUIET_S = 1.0
"""How often it looks whether it is time for what follows, while nothing is to tell."""
IDLE_S = 30.0
"""Places passed with nothing to deliver are written this often: they spare a new owner some reading."""


class Commits:
    """Commits the progress of this process's connectors."""

    def __init__(
        self,
        session: Session,
        roster: Roster,
        pump: Callable[[Connector], None],
        *,
        timeout_s: float,
        clock: Callable[[], float],
        checkpoint: Checkpoint = lambda _: None,
    ) -> None:
        """`checkpoint` is called with `before_progress`, `in_progress` (when it sets apart) and `after_progress`."""
        self._session = session
        self._roster = roster
        self._pump = pump
        self._clock = clock
        self._apart_s = timeout_s + 60
        self._checkpoint = checkpoint
        self._marked: dict[Connector, None] = {}
        self._held: dict[Connector, tuple[Progress, float]] = {}
        """What is to be told again of connectors that somebody held, and from which monotonic time on."""
        self._something = asyncio.Event()
        self._urgent = asyncio.Event()
        self._idle_at = time.monotonic()

    def __repr__(self) -> str:
        return f"<Commits marked={len(self._marked)}>"

    def mark(self, connector: Connector) -> None:
        """This connector has something to commit."""
        if not connector.closed:
            self._marked[connector] = None
            self._something.set()
            if connector not in self._held and connector.queue.pressed():
                self._urgent.set()

    def wake(self) -> None:
        """Look for something to tell now."""
        self._something.set()
        self._urgent.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Commit until `stop` is set and nothing is left to tell."""
        while not (stop.is_set() and not self._marked):
            began = time.monotonic()
            committed = await self.step()
            pause_s = max(PAUSE_S, time.monotonic() - began)
            if not committed:
                # All that is done lies behind requests under way: look again soon.
                await asyncio.sleep(PAUSE_S)
            await self._wait(self._urgent, pause_s)
            if not self._marked:
                self._something.clear()
                await self._wait(self._something, QUIET_S)

    async def close(self) -> None:
        """Close its connection, when it runs no more."""
        await self._session.drop()

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    async def step(self) -> bool:
        """One commit; returns whether there was anything to tell."""
        self._urgent.clear()
        batch = self._collect()
        if not batch:
            return False
        self._checkpoint("before_progress")
        committed = await self._write(batch)
        self._checkpoint("after_progress")
        now_s, now = self._clock(), time.monotonic()
        for connector, progress in batch:
            if connector.id in committed.held:
                self._held[connector] = progress, now + HELD_S
                self.mark(connector)
                continue
            if connector.id not in committed.written:
                self._roster.lose(connector)
                continue
            connector.epoch += 1
            connector.queue.committed(progress)
            for delivery in progress.failed + progress.retried:
                connector.due_in(delivery.next_at - now_s)
            if connector.queue.uncommitted() or connector.queue.held_up():
                self.mark(connector)
            self._pump(connector)
        return True

    def _collect(self) -> progress_store.Batch:
        batch: list[tuple[Connector, Progress]] = []
        now = time.monotonic()
        self._held = {connector: held for connector, held in self._held.items() if not connector.closed}
        for connector in list(self._marked):
            if len(batch) >= CONNECTORS_MAX:
                break
            del self._marked[connector]
            if connector.closed:
                continue
            if progress := self._progress(connector, now):
                batch.append((connector, progress))
            elif connector in self._held or connector.queue.held_up():
                self._marked[connector] = None
        if now - self._idle_at >= IDLE_S:
            self._idle_at = now
            busy = {connector for connector, _ in batch}
            since = moment(self._clock())
            batch += [
                (connector, progress)
                for connector in self._roster.connectors.values()
                if connector not in busy
                and connector not in self._held
                and (progress := connector.queue.collect(now, idle_since=since))
            ]
        return batch

    def _progress(self, connector: Connector, now: float) -> Progress | None:
        """What there is to tell of it: first, and alone, what could not be told before."""
        held = self._held.get(connector)
        if held is None:
            return connector.queue.collect(now)
        progress, since = held
        if now < since:
            return None
        del self._held[connector]
        return progress

    async def _write(self, batch: progress_store.Batch) -> progress_store.Committed:
        """Commit, however long Postgres is away; what was lost meanwhile shows in the epochs."""
        while True:
            try:
                connection = await self._session.get()
                return await progress_store.commit(
                    connection, batch, moment(self._clock() + self._apart_s), self._checkpoint
                )
            except PostgresAway as error:
                logs.event(log, logging.WARNING, "commit_deferred", connectors=len(batch), cause=repr(error))
                await self._session.drop()
                batch = [item for item in batch if not item[0].closed]
                if not batch:
                    return progress_store.Committed(set(), set())
                await asyncio.sleep(RETRY_S)
