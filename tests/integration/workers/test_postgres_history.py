"""Which database it is, and whether it went back: as all workers come to know it."""

from prometheus_client import CollectorRegistry

from schemas import keys
from schemas.metrics import Metrics
from schemas.postgres import Pool
from schemas.redis import Redis
from workers.postgres_history import PostgresHistory


async def test_whoever_restored_it_may_have_all_read_anew(pool: Pool, redis_client: Redis) -> None:
    """A copy of the last second looks like what it is a copy of. A worker that starts later knows as well."""
    history = PostgresHistory(pool, redis_client, metrics := Metrics(CollectorRegistry()))
    await history.look()
    await pool.execute("UPDATE installation SET generation = generation + 1")
    await history.look()
    later = PostgresHistory(pool, redis_client, metrics)
    await later.look()
    assert (history.generation, later.generation) == (1, 1)
    assert metrics.postgres_went_back._value.get() == 0


async def test_a_heartbeat_that_is_lower_than_it_was_begins_a_generation(pool: Pool, redis_client: Redis) -> None:
    """Once, however many workers look; a Redis that was emptied is none."""
    metrics = Metrics(CollectorRegistry())
    first, second = PostgresHistory(pool, redis_client, metrics), PostgresHistory(pool, redis_client, metrics)
    for history in (first, second, first):
        await history.look()
    await redis_client.delete(keys.POSTGRES)
    await first.look()
    assert first.generation == 0
    await pool.execute("UPDATE installation SET heartbeat = heartbeat - 2")
    for history in (second, first, second):
        await history.look()
    assert (first.generation, second.generation) == (1, 1)
    assert metrics.postgres_went_back._value.get() == 1
