"""Fills the queues of connectors from what lies behind the tail: windows of the log, and rows whose time has come.

Each connector that is behind reads by itself, from its own place, only as much as it will send soon. Few such reads run
at once, so that however many are behind, Postgres is left to those that are not.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable

from schemas.placement import Placement
from schemas.postgres import PostgresAway
from workers.dispatcher import store
from workers.dispatcher.connector import Connector
from workers.dispatcher.queue import DUE_MAX
from workers.dispatcher.reading import EventLog, Span, by_index
from workers.dispatcher.requesting import Spawn
from workers.dispatcher.roster import Roster
from workers.dispatcher.session import Session

TICK_S, QUIET_TICK_S = 0.05, 0.2
"""How often connectors are looked after, and how often while none is behind."""
WINDOW = 128
"""Events that one read of a window brings, shared by the shards that it reads."""
WINDOW_OF_SHARD_MIN = 8
READS_MAX = 3
CONNECTORS_MAX = 200
"""Connectors whose due rows are read at once."""
RECHECK_S = 5.0
"""Rows are looked at again at least this often where there are some: wall clocks jump, and the times are theirs."""
UNTOLD_S = 30.0
"""And where none are known: a notification may have been lost with its connection."""
RETRY_S = 0.25


class Feeder:
    """Reads for the connectors of this process, one by one."""

    def __init__(
        self,
        log: EventLog,
        dsn: str,
        roster: Roster,
        pump: Callable[[Connector], None],
        spawn: Spawn,
        clock: Callable[[], float],
        placement: Placement,
    ) -> None:
        self._log = log
        self._rows = Session(dsn, "dispatcher queues", by_index)
        self._windows: asyncio.LifoQueue[Session] = asyncio.LifoQueue()
        for _ in range(READS_MAX):
            self._windows.put_nowait(Session(dsn, "dispatcher windows", by_index))
        self._roster = roster
        self._pump = pump
        self._spawn = spawn
        self._clock = clock
        self._placement = placement
        self._due = asyncio.Event()

    def look(self, connector: Connector) -> None:
        """Read a window for it, if it wants one and is not reading yet; rows that are due follow."""
        if connector.hungry():
            connector.reading = True
            self._spawn(self._read(connector))
        if connector.expecting():
            self._due.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look after all connectors until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S if self._roster.joining else QUIET_TICK_S):
                    await self._due.wait()
            self._due.clear()
            for connector in set(self._roster.joining.values()):
                self.look(connector)
            wanting = [connector for connector in self._roster.connectors.values() if connector.expecting()]
            try:
                for n in range(0, len(wanting), CONNECTORS_MAX):
                    await self._read_due(wanting[n : n + CONNECTORS_MAX])
            except PostgresAway:
                await self._rows.drop()
                for connector in wanting:
                    connector.due_in(RETRY_S)
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Close the connections, when nothing reads any more."""
        await self._rows.drop()
        while not self._windows.empty():
            await self._windows.get_nowait().drop()

    async def _read(self, connector: Connector) -> None:
        session = await self._windows.get()
        try:
            if not connector.closed:
                await self._read_window(connector, session)
        except PostgresAway:
            await session.drop()
            await asyncio.sleep(RETRY_S)
        finally:
            self._windows.put_nowait(session)
            connector.reading = False
        self._pump(connector)

    async def _read_window(self, connector: Connector, session: Session) -> None:
        cursors = connector.queue.cursors
        spans = {
            shard: Span(shard, cursor.read, cursor.tail.seq, cursor.stored_at)
            for shard, cursor in cursors.items()
            if not cursor.live and cursor.read < cursor.tail.seq
        }
        limit = max(WINDOW_OF_SHARD_MIN, WINDOW // max(1, len(spans)))
        connection = await session.get()
        found = await self._placement.read(
            spans,
            lambda shards: self._log.read_window(
                connection, connector.project_id, [spans[shard] for shard in shards], limit
            ),
            alone=True,
        )
        events = [event for read in found.results for event in read]
        counts = dict.fromkeys(cursors, 0)
        last = dict.fromkeys(cursors, 0)
        for event in events:
            counts[event.shard] += 1
            last[event.shard] = event.seq
            if connector.target.wants(event.type):
                connector.queue.offer(event)
                connector.pass_unread(-1)
        connector.catching_up = limit in counts.values()
        for span in spans.values():
            if span.shard not in found.shards:
                continue
            full = counts[span.shard] == limit
            cursors[span.shard].fall_behind(last[span.shard] + 1 if full else span.high)
            self._roster.joining[cursors[span.shard]] = connector

    async def _read_due(self, connectors: list[Connector]) -> None:
        now_s, now = self._clock(), time.monotonic()
        loaded = [row_id for connector in connectors for row_id in connector.queue.loaded]
        for connector in connectors:
            connector.check_at = now + UNTOLD_S
        found = await self._log.read_due(
            await self._rows.get(),
            [connector.id for connector in connectors],
            loaded,
            store.moment(now_s),
            DUE_MAX,
            self._placement,
        )
        by_id = {connector.id: connector for connector in connectors}
        counts = dict.fromkeys(by_id, 0)
        for due in found:
            connector = by_id[due.connector_id]
            connector.due_in(RECHECK_S)
            if due.delivery is None:
                connector.due_in(due.next_at - now_s)
                continue
            counts[connector.id] += 1
            if due.delivery.waiting_id not in connector.queue.loaded:
                connector.queue.offer_due(due.delivery)
        for connector in connectors:
            if counts[connector.id] == DUE_MAX:
                connector.due_in(0)
            self._pump(connector)
