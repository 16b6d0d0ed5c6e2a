"""How lists are read from the log: in the order of an index, whatever PostgreSQL expects to find.

Without statistics, as those of today's partition often are, and because it does not know that a device is always of the
same shard, the planner takes the events of a device or project for few: it would fetch and sort all of them for a page
that shows a hundred. Read by index a page costs what it shows.
"""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from schemas.postgres import Connection, Pool
from schemas.telemetry import AHEAD_MAX

SETTINGS = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off"
STORED_SLACK = AHEAD_MAX + timedelta(hours=1)
"""An event's own time is at most this much later than the time it was stored; so old partitions are left alone."""


@contextlib.asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    """A connection, in a transaction that reads so."""
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute(SETTINGS)
        yield connection
