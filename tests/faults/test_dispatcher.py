"""Dispatchers and their Postgres broken while many events are owed: none lost, few repeated, all accounted for."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import pytest
from webhooks import Project, make_project, until

from gateway.cli.local.embedded import EmbeddedPostgres
from gateway.stores.connectors.ledgers import Ledger
from schemas import keys, postgres, redis
from tests.conftest import SHARDS
from tests.faults.stack import Load, Process, Stack

LIMIT = 64
"""Requests to a connector that may be under way or not committed: what a crash repeats."""
ON_LOOPBACK = {"FLEETGATE_EGRESS_ALLOW": "127.0.0.0/8", "FLEETGATE_EGRESS_HTTP": "true"}
ALONE = {"FLEETGATE_WORKER_ROLES": "dispatcher", **ON_LOOPBACK}
_MARK = b'"eventId":"'


@dataclass
class Counting:
    """A receiver that keeps up with a dispatcher. One event in fifty it refuses at first."""

    seen: Counter[bytes] = field(default_factory=Counter)
    refused: set[bytes] = field(default_factory=set)
    url: str = ""

    def take(self, body: bytes) -> bool:
        """Whether this delivery is acknowledged."""
        at = body.index(_MARK) + len(_MARK)
        event_id = body[at : at + 20]
        if hash(event_id) % 50 == 0 and event_id not in self.refused:
            self.refused.add(event_id)
            return False
        self.seen[event_id] += 1
        return True

    @property
    def repeated(self) -> int:
        return sum(self.seen.values()) - len(self.seen)


class Connection(asyncio.Protocol):
    """HTTP as far as it is needed here."""

    def __init__(self, receiver: Counting) -> None:
        self._receiver = receiver
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]):
            return
        self._buffer = b""
        line = b"HTTP/1.1 200 OK" if self._receiver.take(body) else b"HTTP/1.1 500 No"
        self._transport.write(line + b"\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
async def counting() -> AsyncIterator[Counting]:
    """A receiver that counts."""
    made = Counting()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(made), "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield made
    server.close()


@pytest.fixture
async def owing(stack: Stack) -> AsyncIterator[Project]:
    """A project in the stack's database."""
    pool = await postgres.create_pool(stack.postgres.dsn(), "faults", 4)
    yield await make_project(pool, stack.postgres.dsn())
    await pool.close()


async def settled(project: Project, connector: str, wait_s: float = 60) -> Ledger:
    """The ledger, once nothing is owed any more; it must add up all the time."""

    async def look() -> Ledger | None:
        try:
            return await project.settled(connector)
        except postgres.PostgresAway:
            return None

    found: Ledger = await until(look, wait_s)
    return found


async def test_a_dispatcher_killed_at_each_step_loses_nothing(stack: Stack, owing: Project, counting: Counting) -> None:
    """Forty thousand events owed: repeated are at most those in flight at each death."""
    connector = await owing.connector(counting.url)
    for _ in range(4):
        await owing.happen(10_000)
    steps = ["before_progress:1", "before_progress:30", "in_progress:1", "in_progress:25", "after_progress:60"]
    for step in steps:
        dying = await stack.worker("--die-at", step, **ALONE)
        assert await dying.ended() == -signal.SIGKILL
    for _ in range(2):
        dying = await stack.worker(**ALONE)
        before = len(counting.seen)
        await until(lambda before=before: len(counting.seen) > before + 5_000)
        await dying.kill()
    deaths = len(steps) + 2
    assert (await owing.ledger(connector)).backlog > 5_000
    await stack.worker(**ALONE)
    ledger = await settled(owing, connector)
    assert len(counting.seen) == 40_000
    assert counting.repeated <= deaths * LIMIT
    assert (ledger.accepted, ledger.delivered) == (40_000, 40_000)


async def test_of_two_dispatchers_one_is_killed(stack: Stack, owing: Project, counting: Counting) -> None:
    """The other takes over its connectors."""
    connectors = [await owing.connector(f"{counting.url}/{n}") for n in range(6)]
    workers = [await stack.worker(**ALONE) for _ in range(2)]
    happened = 0
    for n in range(10):
        happened += len(await owing.happen(200))
        before = len(counting.seen)
        await until(lambda before=before: len(counting.seen) > before)
        if n == 4:
            await workers[0].kill()
    for connector in connectors:
        ledger = await settled(owing, connector)
        assert (ledger.accepted, ledger.delivered) == (happened, happened)
    assert len(counting.seen) == happened
    # Each event goes to six connectors, and may be refused once for all of them.
    assert counting.repeated - 5 * happened <= 6 * LIMIT


async def test_a_frozen_dispatcher_that_wakes_up_counts_nothing_twice(
    stack: Stack, owing: Project, counting: Counting
) -> None:
    """Its locks are gone and another has its connectors; what it commits is refused by the epoch."""
    connector = await owing.connector(counting.url)
    frozen = await stack.worker(**ALONE)
    await owing.happen(2_000)
    await until(lambda: len(counting.seen) > 500)
    frozen.signal(signal.SIGSTOP)
    await stack.query(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name ~ 'dispatcher|worker'"
    )
    await stack.worker(**ALONE)
    await owing.happen(2_000)
    await until(lambda: len(counting.seen) > 2_500)
    frozen.signal(signal.SIGCONT)
    await owing.happen(1_000)
    ledger = await settled(owing, connector)
    assert (ledger.accepted, ledger.delivered) == (5_000, 5_000)
    assert len(counting.seen) == 5_000
    assert counting.repeated <= 3 * LIMIT
    assert frozen.child.returncode is None


async def test_a_dispatcher_told_to_go_repeats_nothing(stack: Stack, owing: Project, counting: Counting) -> None:
    """It ends with 0 after having committed what it had sent; the next goes on from there."""
    connector = await owing.connector(counting.url)
    await owing.happen(20_000)
    for _ in range(3):
        worker: Process = await stack.worker(**ALONE)
        before = len(counting.seen)
        await until(lambda before=before: len(counting.seen) > before + 1_000)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
    await stack.worker(**ALONE)
    ledger = await settled(owing, connector)
    assert (ledger.delivered, len(counting.seen), counting.repeated) == (20_000, 20_000, 0)


async def test_postgres_killed_and_started_again(stack: Stack, owing: Project, counting: Counting) -> None:
    """Deliveries stop and go on; a commit whose answer was lost is counted once."""
    connector = await owing.connector(counting.url)
    worker = await stack.worker(**ALONE)
    await owing.happen(20_000)
    for _ in range(2):
        before = len(counting.seen)
        await until(lambda before=before: len(counting.seen) > before + 3_000)
        await _crash(stack.postgres)
    ledger = await settled(owing, connector)
    assert (ledger.accepted, ledger.delivered, len(counting.seen)) == (20_000, 20_000, 20_000)
    assert counting.repeated <= 2 * LIMIT
    assert worker.child.returncode is None


async def _crash(server: EmbeddedPostgres) -> None:
    assert server.process is not None
    server.kill()
    await asyncio.to_thread(server.start)


async def test_redis_emptied_under_load_loses_no_event_that_was_stored(stack: Stack, counting: Counting) -> None:
    """The whole way, from the devices' requests to the receiver."""
    pool = await postgres.create_pool(stack.postgres.dsn(), "faults", 2)
    row = await pool.fetchrow("SELECT id, organization_id FROM projects")
    assert row is not None
    project = Project(pool, row["organization_id"], row["id"])
    connector = await project.connector(counting.url)
    await stack.edge()
    await stack.worker(**ON_LOOPBACK)
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(300)
        client = redis.connect(stack.redis_url)
        await client.flushall()
        await load.until(300)

    async def flushed() -> bool:
        return sum([await client.xlen(keys.ingest(shard)) for shard in range(SHARDS)]) == 0

    await until(flushed)
    await client.aclose()
    ledger = await settled(project, connector)
    stored = await pool.fetchval("SELECT count(*) FROM events")
    assert ledger.delivered == len(counting.seen) == stored
    await pool.close()
