"""Flushers for tests to run by hand, and devices that speak."""

from typing import Any

from prometheus_client import CollectorRegistry

from schemas.metrics import Metrics
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from tests.conftest import MASTER_KEY, SHARDS
from workers.flusher.flusher import Flusher
from workers.postgres_history import PostgresHistory


def flusher_of(edge: Any, redis_client: Redis) -> Flusher:
    """A flusher that has no shard yet."""
    settings = WorkerSettings(postgres_dsn="", redis_url="", master_key=MASTER_KEY)
    pool, metrics = edge.services.postgres, Metrics(CollectorRegistry())
    return Flusher(pool, redis_client, metrics, settings, PostgresHistory(pool, redis_client, metrics))


def flushers(edge: Any, redis_client: Redis, count: int = 1) -> list[list[Flusher]]:
    """`count` sets of flushers, one for each shard."""
    return [[flusher_of(edge, redis_client) for _ in range(SHARDS)] for _ in range(count)]


async def drain(shards: list[Flusher]) -> int:
    """Flush until nothing is left."""
    total = 0
    for shard, flusher in enumerate(shards):
        await flusher.open(shard)
        while stored := await flusher.flush():
            total += stored
        await flusher.flush()
    return total


async def store_all(edge: Any, redis_client: Redis) -> int:
    """Store everything that was accepted and everything that happened."""
    [shards] = flushers(edge, redis_client)
    return await drain(shards)


async def send(edge: Any, device_id: Any, **message: Any) -> None:
    """One telemetry message of a device."""
    url = f"{edge.url}/v1/devices/{device_id}/telemetry"
    key = edge.services.access_keys.issue(str(device_id), 0)
    async with edge.http.post(url, json=message, headers={"authorization": key}) as response:
        assert response.status == 201
