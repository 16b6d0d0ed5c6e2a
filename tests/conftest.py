"""Real servers for every test: one PostgreSQL and one Valkey a session, a fresh database a test."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from gateway.cli.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from schemas import postgres, redis
from schemas.postgres import Pool
from schemas.redis import Redis

MASTER_KEY = "5a" * 32
SHARDS = 4
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the session. It does not sync to disk: tests that crash it start their own."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """One Valkey for the session."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey") / "data", port=free_port(), fsync="no")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
async def template_database(postgres_server: EmbeddedPostgres) -> str:
    """The name of a migrated, empty database that others are copied from."""
    connection = await postgres.connect(postgres_server.dsn(), "tests")
    await postgres.migrate(connection, shards=SHARDS, master_key=MASTER_KEY)
    await connection.close()
    return "fleetgate"


@pytest.fixture
async def dsn(postgres_server: EmbeddedPostgres, template_database: str) -> AsyncIterator[str]:
    """A fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_server.dsn("postgres"))
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY FILE_COPY")
    yield postgres_server.dsn(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    """A connection pool on the test's database."""
    pool = await postgres.create_pool(dsn, "tests", 10)
    yield pool
    await pool.close()


@pytest.fixture
async def redis_url(valkey_server: EmbeddedValkey) -> str:
    """The URL of the emptied Valkey."""
    client = redis.connect(valkey_server.url)
    await client.flushall()
    await client.aclose()
    return valkey_server.url


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the emptied Valkey."""
    client = redis.connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent
