"""The day ends while messages are stored: the log has a partition for each, and one may be missing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from flushing import drain, flushers, send
from owners import Owner

from schemas.redis import Redis


class PostgresClock:
    """The clock of the test's Postgres, for what is asked of it from now on."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def set(self, moment: datetime) -> None:
        """It stands still there."""
        connection = await asyncpg.connect(self._dsn)
        await connection.execute("UPDATE moved.clock SET at = $1", moment)
        await connection.close()


@pytest.fixture
async def clock(dsn: str) -> PostgresClock:
    """Functions of ours hide those of Postgres, from all who connect later. To be asked for before an edge."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE SCHEMA moved CREATE TABLE clock (at timestamptz)")
    await connection.execute("INSERT INTO moved.clock VALUES (now())")
    for name in ("now", "clock_timestamp"):
        await connection.execute(
            f"CREATE FUNCTION moved.{name}() RETURNS timestamptz LANGUAGE sql AS 'SELECT at FROM moved.clock'"
        )
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {database} SET search_path = moved, pg_catalog, public")
    await connection.close()
    return PostgresClock(dsn)


async def partitions(acme: Owner) -> list[tuple[str, int]]:
    """In which partition each message lies, in the order of the log."""
    rows = await acme.pool.fetch(
        """SELECT tableoid::regclass::text AS partition, (data->'telemetry'->'telemetries'->>'n')::int AS n
             FROM events WHERE type = 'telemetry' ORDER BY seq"""
    )
    return [(row["partition"], row["n"]) for row in rows]


async def test_what_is_stored_around_midnight_lies_in_the_day_in_which_it_was_stored(
    clock: PostgresClock, edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """To the microsecond, in the order of the messages; the state is that of the second."""
    device_id = await acme.device()
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    [shards] = flushers(edge, redis_client)
    for n, moment in enumerate((midnight - timedelta(microseconds=1), midnight)):
        await clock.set(moment)
        await send(edge, device_id, telemetries={"n": n})
        assert await drain(shards) == 1
    today, tomorrow = midnight - timedelta(days=1), midnight
    assert await partitions(acme) == [(f"events_{today:%Y%m%d}", 0), (f"events_{tomorrow:%Y%m%d}", 1)]
    assert await acme.pool.fetchval("SELECT telemetries->>'n' FROM device_state WHERE device_id = $1", device_id) == "1"


async def test_the_first_batch_of_a_day_makes_the_partition_that_nobody_made(
    clock: PostgresClock, edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """However far the clock has gone meanwhile: the batch that finds none is stored all the same, once."""
    device_id = await acme.device()
    [shards] = flushers(edge, redis_client)
    later = datetime.now(UTC) + timedelta(days=40)
    await clock.set(later)
    await send(edge, device_id, telemetries={"n": 1})
    assert await drain(shards) == 1
    assert await partitions(acme) == [(f"events_{later:%Y%m%d}", 1)]
