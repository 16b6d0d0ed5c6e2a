"""Reads the end of the log once for all connectors of this process that have read all before it.

When it is told that there is something new (see `news`), every 20 ms at most, it asks how far each shard is, and reads
what is new of the projects that have connectors here; untold it asks now and then, and all the time where nothing
tells. A connector whose queue is full leaves the tail and reads windows of its own (see `feeder`); it joins again where
the two meet. It joins only here, between two reads, so a read that is under way was made for all who are given its
events. Where the data plane is distributed each of its nodes has a tail, so that one that is away stops no others.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from enum import Enum

from schemas import event_log, logs
from schemas.postgres import PostgresAway
from workers.dispatcher.body import Event
from workers.dispatcher.connector import Connector
from workers.dispatcher.cursors import CLOCK_SLACK, Cursor, Shard
from workers.dispatcher.news import News
from workers.dispatcher.queue import FRESH_MAX
from workers.dispatcher.reading import EventLog, Span
from workers.dispatcher.roster import Roster
from workers.dispatcher.session import Session
from workers.dispatcher.store import moment

logger = logging.getLogger(__name__)

INTERVAL_S = 0.02
UNTOLD_S = 1.0
"""How often is asked while nothing is told."""
READ_MAX = 1_000
"""Events of one shard's log passed in one read."""
RETRY_S = 0.25


class Found(Enum):
    """What there was to read: nothing new, all of it, or some of it, and there is more at once."""

    NOTHING, ALL, SOME = range(3)


class Tail:
    """The reading end that connectors share."""

    def __init__(
        self,
        log: EventLog,
        session: Session,
        roster: Roster,
        news: News,
        pump: Callable[[Connector], None],
        clock: Callable[[], float],
        shards: Collection[int] | None = None,
    ) -> None:
        """`shards` are those that it follows; all without."""
        self._log = log
        self._news = news
        self._session = session
        self._roster = roster
        self._pump = pump
        self._clock = clock
        self._only = shards

    def __repr__(self) -> str:
        return f"<Tail {list(self._shards().values())}>"

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the log until `stop` is set. A Postgres that is away is asked again."""
        told = True
        while not stop.is_set():
            self._news.forget()
            try:
                found = await self.read()
            except PostgresAway:
                await self._session.drop()
                await asyncio.sleep(RETRY_S)
                continue
            if found is Found.SOME:
                continue
            if found is Found.ALL:
                if not told:
                    self._news.missed()
                await asyncio.sleep(INTERVAL_S)
            if found is Found.NOTHING or self._news.tells:
                told = await self._news.wait(UNTOLD_S if self._news.tells else INTERVAL_S)

    async def close(self) -> None:
        """Close its connection, when it runs no more."""
        await self._session.drop()

    async def read(self) -> Found:
        """Hand out what is new."""
        connection = await self._session.get()
        since = moment(self._clock()) - CLOCK_SLACK
        shards = self._shards()
        heads = await event_log.heads(connection, shards)
        if any(heads[shard.shard] < shard.seq for shard in shards.values()):
            logs.event(logger, logging.ERROR, "log_went_back", heads=heads)
            self._roster.forget()
            self._roster.outdated.set()
            return Found.ALL
        self._join(shards)
        spans = [
            Span(shard.shard, shard.seq, min(heads[shard.shard], shard.seq + READ_MAX), shard.stored_at)
            for shard in shards.values()
            if heads[shard.shard] > shard.seq
        ]
        if not spans:
            return Found.NOTHING
        projects = self._roster.projects
        events = await self._log.read_tail(connection, spans, projects.keys()) if projects else []
        touched: set[Connector] = set()
        for span in spans:
            shards[span.shard].seq = span.high
        for event in events:
            for connector in self._roster.projects.get(event.project_id, ()):
                if self._give(connector, event):
                    touched.add(connector)
        for span in spans:
            shards[span.shard].stored_at = max(shards[span.shard].stored_at, since)
        for connector in touched:
            self._pump(connector)
        return Found.SOME if any(heads[span.shard] > span.high for span in spans) else Found.ALL

    def _shards(self) -> dict[int, Shard]:
        shards, only = self._roster.shards, self._only
        return {shard: place for shard, place in shards.items() if only is None or shard in only}

    def _join(self, shards: Collection[int]) -> None:
        """Let those who have read up to here follow from here."""
        for cursor in [
            cursor for cursor in self._roster.joining if cursor.read == cursor.tail.seq and cursor.tail.shard in shards
        ]:
            del self._roster.joining[cursor]
            cursor.live = True

    def _give(self, connector: Connector, event: Event) -> bool:
        cursor: Cursor = connector.queue.cursors[event.shard]
        if not connector.target.wants(event.type):
            return False
        if not cursor.live:
            connector.pass_unread(1)
            return False
        if len(connector.queue.fresh) >= FRESH_MAX:
            cursor.fall_behind(event.seq)
            connector.pass_unread(1)
            self._roster.joining[cursor] = connector
        else:
            connector.queue.offer(event)
        return True
