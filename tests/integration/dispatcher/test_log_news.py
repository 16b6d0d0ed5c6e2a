"""Flushers tell dispatchers of new events, so that these need not ask all the time."""

import pytest
from webhooks import Project, Receiver, until

from schemas import keys, redis
from schemas.redis import Redis
from workers.dispatcher import tail
from workers.flusher import stream
from workers.flusher.stream import Progress

STORED = {0: Progress("1-1", 1, "0-0", 0)}


async def _is_heard(redis_client: Redis) -> bool:
    [[_, listeners]] = await redis_client.pubsub_numsub(keys.STORED)
    return bool(listeners)


async def test_what_was_stored_is_read_when_a_flusher_tells_of_it(
    project: Project, receiver: Receiver, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not asked for by itself any more, once somebody listens."""
    monkeypatch.setattr(tail, "UNTOLD_S", 3600)
    connector = await project.connector(receiver.url)
    async with project.dispatcher(redis=redis_client):
        await until(lambda: _is_heard(redis_client))
        for _ in range(2):
            await project.happen(3)
            await stream.settle(redis_client, STORED)
            await until(lambda: project.settled(connector))
    assert len(receiver.received) == 6


async def test_where_a_flusher_tells_nothing_the_log_is_asked_all_the_time(
    project: Project, receiver: Receiver, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is older, or whose user may not publish: the first event waits for the next look, no other does."""
    monkeypatch.setattr(tail, "UNTOLD_S", 0.05)
    connector = await project.connector(receiver.url)
    async with project.dispatcher(redis=redis_client):
        await until(lambda: _is_heard(redis_client))
        for _ in range(3):
            await project.happen(1)
            await until(lambda: project.settled(connector))
        monkeypatch.setattr(tail, "UNTOLD_S", 3600)
        for _ in range(3):
            await project.happen(1)
            await until(lambda: project.settled(connector))
    assert len(receiver.received) == 6


async def test_a_user_of_redis_who_may_not_publish_may_store(redis_client: Redis, redis_url: str) -> None:
    """Dispatchers ask by themselves then; how far a shard is stored is noted all the same."""
    await redis_client.execute_command("ACL", "SETUSER", "silent", "reset", "on", "nopass", "~*", "+@all")
    silent = redis.connect(redis_url.replace("redis://", "redis://silent:@"))
    await stream.settle(silent, STORED)
    assert await stream.progress(silent, 0) == STORED[0]
    await silent.aclose()
    await redis_client.execute_command("ACL", "DELUSER", "silent")
