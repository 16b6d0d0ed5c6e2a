"""How lists are read from the log: in the order of an index, whatever PostgreSQL expects to find.

Without statistics, as those of today's partition often are, and because it does not know that a device is always of the
same shard, the planner takes the events of a device or project for few: it would fetch and sort all of them for a page
that shows a hundred. Read by index a page costs what it shows.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

from gateway.giving_way import let_others_go_first
from gateway.stores.events.tiers import Tiers
from schemas.bounds import PAGE_BYTES_MAX
from schemas.postgres import Connection, fetch_some
from schemas.postgres_errors import Record
from schemas.telemetry import AHEAD_MAX

T = TypeVar("T")

SETTINGS = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off"
STORED_SLACK = AHEAD_MAX + timedelta(hours=1)
"""An event's own time is at most this much later than the time it was stored; so old partitions are left alone."""

ROWS_FIRST, ROWS_MAX = 50, 100
"""Of one fetch: between two of them the event loop is free for others."""


@contextlib.asynccontextmanager
async def reading(tiers: Tiers) -> AsyncIterator[Connection]:
    """A connection, in a transaction that reads so, and sees the same in all of its statements."""
    async with tiers.reading(SETTINGS) as connection:
        yield connection


class Filling(Generic[T]):
    """A page that is being read: what is made of rows with their `data` as text, until there are `limit` of them, or
    they are more than fill a page.

    They are fetched some at a time, as many as by the size of those before them should fill the page.
    """

    def __init__(self, made_of: Callable[[Record], T], limit: int) -> None:
        self.rows: list[T] = []
        self._made_of = made_of
        self._limit = limit
        self._characters = 0
        self._next = ROWS_FIRST

    @property
    def room(self) -> int:
        """How many more rows it takes."""
        return 0 if self._characters > PAGE_BYTES_MAX and len(self.rows) > 1 else self._limit - len(self.rows)

    async def read(self, connection: Connection, statement: str, arguments: Sequence[Any]) -> None:
        """Take the rows of a statement, inside a transaction. Others go first before each fetch."""
        await let_others_go_first()
        await fetch_some(connection, statement, *arguments, first=self._next, take=self._take)

    async def take(self, fetched: list[Record]) -> None:
        """Take rows that were read already, no more than there is room for."""
        if fetched:
            await self._take(fetched)

    def fill(self, rows: Iterable[Any]) -> None:
        """Take rows that were read, as long as there is room."""
        for row in rows:
            if not self.room:
                return
            self.rows.append(self._made_of(row))
            self._characters += len(row["data"])

    async def _take(self, fetched: list[Record]) -> int:
        self.rows.extend(map(self._made_of, fetched))
        self._characters += sum(len(row["data"]) for row in fetched)
        room = (PAGE_BYTES_MAX - self._characters) * len(self.rows) // self._characters + 1
        self._next = max(1, min(ROWS_MAX, room))
        if not self.room:
            return 0
        await let_others_go_first()
        return self._next
