"""Keeps how many events lie ahead of each connector that is behind, so that nobody has to count them who asks.

Those in memory are known. Beyond them a connector that is behind has windows of the log to read: what is in there when
it is first found behind is counted once, a slice at a time; from then on each event that the tail passes for it is one
more, and each that a window brings is one fewer. One that keeps up has no backlog and is never written.

A new owner begins anew, and until it has counted a backlog of millions (which takes minutes) it knows of a part only.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from schemas.placement import Placement
from schemas.postgres import Connection, PostgresAway
from workers.dispatcher import store
from workers.dispatcher.connector import Connector
from workers.dispatcher.reading import EventLog, Span
from workers.dispatcher.roster import Roster
from workers.dispatcher.session import Session

INTERVAL_S = 2.0
COUNTED = 20_000
"""Events of one connector that one slice counts, shared by the shards."""
COUNTING_S = 0.5
"""So much of an interval is spent on counting at most."""
LATE_S = 2.0
"""Events that wait for less are on their way."""


class Backlogs:
    """Looks after the connectors of this process."""

    def __init__(
        self, session: Session, event_log: EventLog, roster: Roster, clock: Callable[[], float], placement: Placement
    ) -> None:
        self._session = session
        self._log = event_log
        self._roster = roster
        self._clock = clock
        self._placement = placement
        self._uncounted: dict[Connector, list[Span]] = {}
        """What is still to be counted of those that are behind."""

    def __repr__(self) -> str:
        return f"<Backlogs uncounted={len(self._uncounted)}>"

    async def sweep(self) -> None:
        """Find those that are behind, count some of what is ahead of them, and write what changed."""
        self._find()
        try:
            await self._count()
            await self._write()
        except PostgresAway:
            await self._session.drop()
            raise

    async def close(self) -> None:
        """Close its connection, when it runs no more."""
        await self._session.drop()

    async def _write(self) -> None:
        changed = {
            connector: known
            for connector in self._roster.connectors.values()
            if (known := self._known(connector)) != connector.backlog
        }
        rows = [(connector.id, *known) for connector, known in changed.items()]
        written = await store.keep_backlogs(await self._session.get(), rows) if rows else set()
        for connector, known in changed.items():
            if connector.id in written:
                connector.backlog = known

    def _find(self) -> None:
        self._uncounted = {connector: spans for connector, spans in self._uncounted.items() if not connector.closed}
        for connector in self._roster.connectors.values():
            if not connector.behind():
                connector.unread = None
                self._uncounted.pop(connector, None)
            elif connector.unread is None:
                connector.unread = 0
                self._uncounted[connector] = [
                    Span(shard, cursor.read, cursor.tail.seq, cursor.stored_at)
                    for shard, cursor in connector.queue.cursors.items()
                    if not cursor.live and cursor.read < cursor.tail.seq
                ]

    async def _count(self) -> None:
        until = time.monotonic() + COUNTING_S
        away: dict[Connector, list[Span]] = {}
        while self._uncounted and time.monotonic() < until:
            connector = next(iter(self._uncounted))
            spans = {span.shard: span for span in self._uncounted.pop(connector)}
            wanted = sorted(connector.target.event_types)
            limit = max(1, COUNTED // len(spans))
            connection = await self._session.get()
            count = functools.partial(self._slice, connection, connector.project_id, spans, limit, wanted)
            found = await self._placement.read(spans, count, alone=True)
            if connector.unread is None:
                continue
            counted = {shard: of_shard for each in found.results for shard, of_shard in each.items()}
            connector.unread += sum(events for events, _ in counted.values())
            left = [
                span._replace(low=last + 1)
                for span in spans.values()
                if (last := counted.get(span.shard, (0, None))[1]) is not None
            ]
            unread = [span for span in spans.values() if span.shard not in found.shards]
            if (left or unread) and not connector.closed:
                (self._uncounted if left else away)[connector] = left + unread
        self._uncounted |= away

    async def _slice(
        self,
        connection: Connection,
        project: UUID,
        spans: Mapping[int, Span],
        limit: int,
        wanted: Sequence[str],
        shards: list[int],
    ) -> dict[int, tuple[int, int | None]]:
        return await self._log.count(connection, project, [spans[shard] for shard in shards], limit, wanted)

    def _known(self, connector: Connector) -> tuple[int, datetime | None]:
        """How many events are ahead, and since when; nothing while they are on their way."""
        count, since = connector.queue.ahead()
        if since is None or self._clock() - since.timestamp() < LATE_S:
            if connector.unread is None:
                return 0, None
            since = since or connector.backlog[1]
        return count + max(0, connector.unread or 0), since
