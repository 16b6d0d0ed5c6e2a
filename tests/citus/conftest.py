"""A distributed database for each test that breaks it, and one for those that do not."""

import itertools
import os
from collections.abc import AsyncIterator

import pytest
from tenants import acme, edge, globex

from tests.citus.cluster import Cluster, distributed
from tests.conftest import CITUS, NAMED_CITUS

__all__ = ["acme", "edge", "globex"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
async def cluster() -> Cluster:
    """The cluster that the environment names."""
    if NAMED_CITUS not in os.environ:
        pytest.skip(f"{CITUS} names no cluster: the DSN of a database with citus on a coordinator that has two nodes")
    found = Cluster(os.environ[NAMED_CITUS])
    await found.open()
    assert len(found.nodes) >= 2
    return found


@pytest.fixture
async def name(cluster: Cluster) -> AsyncIterator[str]:
    """The name of a database that is dropped when the test has ended."""
    chosen = f"fleetgate_test_{os.getpid()}_{next(_numbers)}"
    yield chosen
    await cluster.drop(chosen)


@pytest.fixture
async def dsn(cluster: Cluster, name: str) -> str:
    """A fresh database, migrated and distributed."""
    made = await cluster.make(name)
    await distributed(made)
    return made
