"""Fixtures: a running edge, and tenants. The folders that need them import them in their conftest."""

from collections.abc import AsyncIterator

import pytest
from edges import RunningEdge, open_shards, running_edge
from owners import Owner, owner

from schemas.redis import Redis


@pytest.fixture
async def edge(dsn: str, redis_url: str, redis_client: Redis) -> AsyncIterator[RunningEdge]:
    """One edge whose shards are ready."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url) as running:
        yield running


@pytest.fixture
async def acme(edge: RunningEdge) -> Owner:
    """A tenant."""
    return await owner(edge, "Acme")


@pytest.fixture
async def globex(edge: RunningEdge) -> Owner:
    """Another tenant."""
    return await owner(edge, "Globex")
