"""What workers do as time passes."""

from datetime import UTC, datetime, timedelta
from typing import Any

from owners import Owner

from schemas import keys
from schemas.postgres import Pool
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
