"""How lists are read from the log: in the order of an index, whatever PostgreSQL expects to find.

Without statistics, as those of today's partition often are, and because it does not know that a device is always of the
same shard, the planner takes the events of a device or project for few: it would fetch and sort all of them for a page
that shows a hundred. Read by index a page costs what it shows.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, TypeVar

from schemas.bounds import PAGE_BYTES_MAX
from schemas.postgres import Connection, Pool, fetch_some
from schemas.postgres_errors import Record
from schemas.telemetry import AHEAD_MAX

T = TypeVar("T")

SETTINGS = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off"
STORED_SLACK = AHEAD_MAX + timedelta(hours=1)
"""An event's own time is at most this much later than the time it was stored; so old partitions are left alone."""

ROWS_FIRST, ROWS_MAX = 50, 100
"""Of one fetch: between two of them the event loop is free for others."""


@contextlib.asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    """A connection, in a transaction that reads so, and sees the same in all of its statements."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(SETTINGS)
        yield connection


async def rows(connection: Connection, made_of: Callable[[Record], T], statement: str, *arguments: Any) -> list[T]:
    """What is made of the rows of a statement with their `data` as text: of all, or so many as more than fill a page.

    They are fetched some at a time, as many as by the size of those before them should fill the page.
    """
    found: list[T] = []
    characters = 0

    def take(fetched: list[Record]) -> int:
        nonlocal characters
        found.extend(map(made_of, fetched))
        characters += sum(len(row["data"]) for row in fetched)
        if characters > PAGE_BYTES_MAX and len(found) > 1:
            return 0
        return max(1, min(ROWS_MAX, (PAGE_BYTES_MAX - characters) * len(found) // characters + 1))

    await fetch_some(connection, statement, *arguments, first=ROWS_FIRST, take=take)
    return found
