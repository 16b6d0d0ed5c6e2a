"""A project and a receiver for each test of deliveries."""

from collections.abc import AsyncIterator

import pytest
from webhooks import Project, Receiver, make_project

from schemas.postgres import Pool


@pytest.fixture
async def project(pool: Pool, dsn: str) -> Project:
    """A project with devices in several shards."""
    return await make_project(pool, dsn)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 200 unless told otherwise."""
    async with Receiver() as made:
        yield made
