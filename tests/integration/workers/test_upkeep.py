"""What workers do as time passes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flushing import send, store_all
from owners import Owner

from schemas import keys
from schemas.postgres import Pool, PostgresBusy
from schemas.redis import Redis
from workers.janitor import Janitor
from workers.replies import ReplyRefresher


async def test_a_change_whose_author_died_still_reaches_the_device(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """The row in the queue leads to the reply, and is gone once that is written; a young row is left alone."""
    device_id = await acme.device()
    row = await acme.row(device_id)
    await edge.services.postgres.execute("DELETE FROM reply_queue")
    await edge.services.postgres.execute("UPDATE devices SET config_version = 7 WHERE id = $1", device_id)
    refresher = ReplyRefresher(edge.services.postgres, redis_client)
    assert await refresher.refresh() == 0
    assert await refresher.refresh(datetime.now(UTC) + timedelta(seconds=5)) == 1
    reply = await redis_client.hget(keys.reply(row["shard"]), str(device_id))
    assert b'"config_version":7' in reply
    assert await edge.services.postgres.fetchval("SELECT count(*) FROM reply_queue") == 0


async def test_partitions_are_made_ahead_and_dropped_after_the_retention(pool: Pool) -> None:
    """A partition goes when its whole day is past the retention, and not before."""
    now = datetime.now(UTC)
    today = f"events_{now:%Y%m%d}"
    assert await Janitor(pool, 31).tidy(now) == []
    assert await Janitor(pool, 31).tidy(now + timedelta(days=31)) == []
    assert await Janitor(pool, 31).tidy(now + timedelta(days=32)) == [today]


async def test_a_partition_is_made_beside_an_open_reader_of_the_log(pool: Pool) -> None:
    """And nobody who writes waits for either. It has the log's keys and indexes."""
    day = datetime.now(UTC) + timedelta(days=5)
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT * FROM events LIMIT 1")
        async with asyncio.timeout(5):
            await pool.execute("SELECT create_event_partitions(5)")
    indexes = await pool.fetch(
        """SELECT i.indexrelid::regclass::text AS name, count(p.inhparent) AS attached
             FROM pg_index i LEFT JOIN pg_inherits p ON p.inhrelid = i.indexrelid
            WHERE i.indrelid = $1::text::regclass GROUP BY 1""",
        f"events_{day:%Y%m%d}",
    )
    parents = await pool.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = 'events'::regclass")
    assert [row["attached"] for row in indexes] == [1] * parents


async def test_two_who_make_the_same_partition_make_it_once(pool: Pool) -> None:
    """And one that cannot is told to try again, instead of holding up whoever comes behind it."""
    makers = (pool.execute("SELECT create_event_partitions($1)", days) for days in (6, 7))
    await asyncio.gather(*makers)
    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE events IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(PostgresBusy):
            await pool.execute("SELECT create_event_partitions(8)")


async def test_a_clock_that_is_set_ends_nothing(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """Events are dated by the clock of Postgres; the day that it says has its partition when it is needed."""
    device_id = await acme.device()
    await send(edge, device_id, telemetries={"n": 1})
    await acme.pool.execute(f"DROP TABLE events_{datetime.now(UTC):%Y%m%d}")
    assert await store_all(edge, redis_client) == 1
    assert await acme.pool.fetchval("SELECT count(*) FROM events WHERE type = 'telemetry'") == 1
