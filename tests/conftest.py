"""Real servers for every test: one PostgreSQL and one Valkey a session, a fresh database a test."""

import asyncio
import contextlib
import gc
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop
from hypothesis import HealthCheck, settings

from gateway.cli.local.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from schemas import postgres, redis
from schemas.egress import GuardedResolver
from schemas.postgres import Connection, Pool
from schemas.redis import Redis
from tests import scheduling

MASTER_KEY = "5a" * 32
SHARDS = 4
MEMORY = "/dev/shm"
MEMORY_BYTES_MIN = 8 * 1024**3
DATABASES_AHEAD = 2
CITUS = "FLEETGATE_TEST_CITUS"
NAMED_CITUS = "TESTS_CITUS"

# A busy machine makes no example wrong, however long it takes there to make and to try one.
settings.register_profile("fleetgate", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fleetgate")


def pytest_configure() -> None:
    """Keep temporary folders, and so some thousand databases, in memory where there is enough of it.

    And take what names a cluster of Citus out of the way of processes that know all of their settings. Until all tests
    are collected nothing is garbage: to look for some takes a fifth of the collecting.
    """
    gc.disable()
    if CITUS in os.environ:
        os.environ[NAMED_CITUS] = os.environ.pop(CITUS)
    with contextlib.suppress(OSError):
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize >= MEMORY_BYTES_MIN and not found.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop that edges and workers run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.Scheduling:
    """In several processes, tests that share a stack stay together."""
    return scheduling.Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In several processes, those that wait and those that work run side by side."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        scheduling.arrange(items)


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: the garbage collector need not look through them again and again."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _names_without_network() -> Iterator[None]:
    """Nobody asks a name server: names but `localhost` have no address, wherever tests run."""
    look_up = GuardedResolver.look_up

    def answer(self: GuardedResolver, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
        if host != "localhost":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(self, host, port, family)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(GuardedResolver, "look_up", answer)
        yield


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
async def databases(postgres_server: EmbeddedPostgres) -> AsyncIterator[asyncio.Queue[str]]:
    """Names of migrated, empty databases; while a test runs, those of the next tests are made."""
    connection = await postgres.connect(postgres_server.dsn(), "tests")
    await postgres.migrate(connection, shards=SHARDS, master_key=MASTER_KEY)
    await connection.close()
    ready: asyncio.Queue[str] = asyncio.Queue(DATABASES_AHEAD)

    async def make() -> None:
        maker = await asyncpg.connect(postgres_server.dsn("postgres"))
        try:
            for number in itertools.count(1):
                await maker.execute(f"CREATE DATABASE test_{number} TEMPLATE fleetgate STRATEGY FILE_COPY")
                await ready.put(f"test_{number}")
        finally:
            await maker.close()

    making = asyncio.create_task(make(), name="databases")
    yield ready
    making.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await making


@pytest.fixture(scope="session")
async def administrator(postgres_server: EmbeddedPostgres) -> AsyncIterator[Connection]:
    """The connection that drops databases: one for the session, since a new one costs as much as a database."""
    connection = await asyncpg.connect(postgres_server.dsn("postgres"))
    yield connection
    await connection.close()


@pytest.fixture
async def dsn(
    postgres_server: EmbeddedPostgres, databases: asyncio.Queue[str], administrator: Connection
) -> AsyncIterator[str]:
    """A fresh, migrated database."""
    name = await databases.get()
    yield postgres_server.dsn(name)
    await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    """A connection pool on the test's database."""
    pool = await postgres.create_pool(dsn, "tests", 10)
    yield pool
    await pool.close()


@pytest.fixture
async def redis_client(valkey_server: EmbeddedValkey) -> AsyncIterator[Redis]:
    """A client of the emptied Valkey."""
    client = redis.connect(valkey_server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def redis_url(redis_client: Redis, valkey_server: EmbeddedValkey) -> str:
    """The URL of the emptied Valkey."""
    return valkey_server.url


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent
