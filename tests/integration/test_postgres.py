"""What callers see of Postgres' errors: every entry of the table in schemas.postgres_errors, provoked for real."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from edges import RunningEdge
from owners import Owner

from gateway.cli.local.embedded import EmbeddedPostgres
from gateway.stores import models
from schemas import postgres, postgres_errors
from schemas.postgres import Connection, Pool, PostgresAway, PostgresBusy, PostgresTimeout, batches
from schemas.settings import SettingsError

DEADLINE_S = 30


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    """A connection as the loops of workers keep."""
    made = await postgres.connect(dsn, "tests")
    await made.execute("CREATE TABLE numbers (n int PRIMARY KEY CHECK (n < 1000))")
    await made.execute("INSERT INTO numbers SELECT generate_series(1, 100)")
    yield made
    made.terminate()


async def end(dsn: str, connection: Connection) -> None:
    """Let an operator end this session."""
    await on_another(dsn, f"SELECT pg_terminate_backend({connection.get_server_pid()}, 5000)")


async def on_another(dsn: str, statement: str) -> None:
    operator = await asyncpg.connect(dsn)
    await operator.execute(statement)
    await operator.close()


# The statement itself


async def read_only(connection: Connection, dsn: str) -> None:
    await connection.execute("SET default_transaction_read_only = on")
    await connection.execute("INSERT INTO numbers VALUES (0)")


async def ended_by_an_operator(connection: Connection, dsn: str) -> None:
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)
    await end(dsn, connection)
    await sleeping


async def ended_before_the_statement(connection: Connection, dsn: str) -> None:
    await end(dsn, connection)
    await closed(connection)
    await connection.execute("SELECT 1")


async def closed(connection: Connection) -> None:
    """Wait until the client has noticed."""
    async with asyncio.timeout(DEADLINE_S):
        while not connection.is_closed():
            await asyncio.sleep(0.001)


async def idle_in_a_transaction(connection: Connection, dsn: str) -> None:
    await connection.execute("SET idle_in_transaction_session_timeout = 10")
    async with connection.transaction():
        await connection.execute("SELECT 1")
        await closed(connection)


async def idle_for_too_long(connection: Connection, dsn: str) -> None:
    await connection.execute("SET idle_session_timeout = 10")
    await closed(connection)
    await connection.fetch("SELECT 1")


async def out_of_connections(connection: Connection, dsn: str) -> None:
    await connection.execute("CREATE ROLE one_at_a_time LOGIN CONNECTION LIMIT 0")
    try:
        await postgres.connect(dsn.replace("//fleetgate@", "//one_at_a_time@"), "tests")
    finally:
        await connection.execute("DROP ROLE one_at_a_time")


async def out_of_disk(connection: Connection, dsn: str) -> None:
    await connection.execute("SET temp_file_limit = 64; SET work_mem = '64kB'")
    await connection.execute("SELECT count(*) FROM (SELECT generate_series(1, 1000000) n ORDER BY n) s")


async def reported_as_disk_full(connection: Connection, dsn: str) -> None:
    await connection.execute("DO $$ BEGIN RAISE 'No space left on device' USING ERRCODE = 'disk_full'; END $$")


async def reported_as_io_error(connection: Connection, dsn: str) -> None:
    await connection.fetchval("SELECT pg_read_file('there is no such file')")


async def told_by_a_coordinator_that_a_node_ended_a_copy(connection: Connection, dsn: str) -> None:
    await relayed(connection, "terminating connection due to administrator command")


async def told_by_a_coordinator_that_a_node_is_full(connection: Connection, dsn: str) -> None:
    await relayed(connection, 'could not extend file "base/5/16384": No space left on device')


async def relayed(connection: Connection, words: str) -> None:
    """What a coordinator says while it copies to a node: the node's words, and no code."""
    await connection.execute(f"DO $$ BEGIN RAISE '{words}' USING ERRCODE = 'internal_error'; END $$")


async def a_copy_is_ended(connection: Connection, dsn: str) -> None:
    records = (("x" * 100_000,) for _ in range(1_000))
    await _copy_ended(connection, dsn, connection.copy_records_to_table("texts", records=records))


async def a_copy_of_a_file_is_ended(connection: Connection, dsn: str) -> None:
    async def lines() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b"x" * 100_000 + b"\n"

    await _copy_ended(connection, dsn, connection.copy_to_table("texts", source=lines()))


async def _copy_ended(connection: Connection, dsn: str, copy: Coroutine[Any, Any, str]) -> None:
    """While it waits for room to write: another session has the table locked."""
    holder = await asyncpg.connect(dsn)
    await holder.execute("CREATE TABLE texts (t text)")
    await holder.execute("BEGIN; LOCK TABLE texts IN EXCLUSIVE MODE")
    copying = asyncio.create_task(copy)
    waiting = f"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {connection.get_server_pid()}"
    async with asyncio.timeout(DEADLINE_S):
        while not await holder.fetchval(waiting):
            await asyncio.sleep(0.005)
    await end(dsn, connection)
    try:
        await copying
    finally:
        await holder.close()


async def a_cursor_is_ended(connection: Connection, dsn: str) -> None:
    async with connection.transaction():
        async for _ in batches(connection, "SELECT n FROM numbers", size=10):
            await end(dsn, connection)
            await closed(connection)


async def a_transaction_is_ended(connection: Connection, dsn: str) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO numbers VALUES (0)")
        await end(dsn, connection)
        await closed(connection)


AWAY = (
    told_by_a_coordinator_that_a_node_ended_a_copy,
    told_by_a_coordinator_that_a_node_is_full,
    read_only,
    ended_by_an_operator,
    ended_before_the_statement,
    idle_in_a_transaction,
    idle_for_too_long,
    out_of_connections,
    out_of_disk,
    reported_as_disk_full,
    reported_as_io_error,
    a_copy_is_ended,
    a_copy_of_a_file_is_ended,
    a_cursor_is_ended,
    a_transaction_is_ended,
)


async def deadlock(connection: Connection, dsn: str) -> None:
    other = await postgres.connect(dsn, "tests")
    await other.execute("SET deadlock_timeout = '10s'")
    await connection.execute("SET deadlock_timeout = '10ms'")
    try:
        async with asyncio.timeout(DEADLINE_S), connection.transaction(), other.transaction():
            await connection.execute("UPDATE numbers SET n = n WHERE n = 1")
            await other.execute("UPDATE numbers SET n = n WHERE n = 2")
            waiting = asyncio.create_task(other.execute("UPDATE numbers SET n = n WHERE n = 1"))
            await asyncio.sleep(0)
            try:
                await connection.execute("UPDATE numbers SET n = n WHERE n = 2")
            finally:
                await connection.execute("ROLLBACK")
                await waiting
    finally:
        other.terminate()


async def serialisation_failure(connection: Connection, dsn: str) -> None:
    async with connection.transaction(isolation="serializable"):
        await connection.fetchval("SELECT count(*) FROM numbers")
        await on_another(dsn, "UPDATE numbers SET n = n WHERE n = 1")
        await connection.execute("UPDATE numbers SET n = n WHERE n = 1")


async def lock_timeout(connection: Connection, dsn: str) -> None:
    holder = await asyncpg.connect(dsn)
    try:
        await holder.execute("BEGIN; LOCK TABLE numbers")
        await connection.execute("SET lock_timeout = 10")
        await connection.fetch("SELECT FROM numbers")
    finally:
        await holder.close()


async def overtaken_by_a_migration(connection: Connection, dsn: str) -> None:
    await connection.fetch("SELECT * FROM numbers WHERE n = $1", 1)
    async with connection.transaction():
        await on_another(dsn, "ALTER TABLE numbers ADD more int")
        await connection.fetch("SELECT * FROM numbers WHERE n = $1", 1)


async def told_by_a_coordinator_that_a_node_was_locked(connection: Connection, dsn: str) -> None:
    await relayed(connection, "canceling statement due to lock timeout")


BUSY = (
    deadlock,
    serialisation_failure,
    lock_timeout,
    overtaken_by_a_migration,
    told_by_a_coordinator_that_a_node_was_locked,
)


async def beyond_the_limit_of_the_server(connection: Connection, dsn: str) -> None:
    await connection.execute("SET statement_timeout = 10")
    await connection.execute("SELECT pg_sleep(60)")


async def beyond_the_limit_of_the_call(connection: Connection, dsn: str) -> None:
    await connection.execute("SELECT pg_sleep(60)", timeout=0.01)


async def told_by_a_coordinator_that_a_node_took_too_long(connection: Connection, dsn: str) -> None:
    await relayed(connection, "canceling statement due to statement timeout")


TIMEOUT = (
    beyond_the_limit_of_the_server,
    beyond_the_limit_of_the_call,
    told_by_a_coordinator_that_a_node_took_too_long,
)


async def too_few_arguments(connection: Connection, dsn: str) -> None:
    await connection.fetch("SELECT $1::int, $2::int", 1)


async def an_argument_of_another_type(connection: Connection, dsn: str) -> None:
    await connection.fetch("SELECT $1::int", "one")


async def an_unknown_column(connection: Connection, dsn: str) -> None:
    await connection.fetch("SELECT m FROM numbers")


async def a_statement_within_another(connection: Connection, dsn: str) -> None:
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(0.1)"))
    await asyncio.sleep(0)
    try:
        await connection.execute("SELECT 1")
    finally:
        await sleeping


async def a_violated_key(connection: Connection, dsn: str) -> None:
    await connection.execute("INSERT INTO numbers VALUES (1)")


async def a_violated_check(connection: Connection, dsn: str) -> None:
    await connection.execute("INSERT INTO numbers VALUES (1000)")


async def an_internal_error(connection: Connection, dsn: str) -> None:
    await relayed(connection, "cache lookup failed for relation 1")


async def a_value_out_of_range(connection: Connection, dsn: str) -> None:
    await connection.execute("INSERT INTO numbers VALUES (3000000000)")


OURS: dict[Callable[[Connection, str], Awaitable[None]], type[Exception]] = {
    too_few_arguments: asyncpg.InterfaceError,
    an_argument_of_another_type: asyncpg.DataError,
    an_unknown_column: asyncpg.UndefinedColumnError,
    a_statement_within_another: asyncpg.InterfaceError,
    a_violated_key: asyncpg.UniqueViolationError,
    a_violated_check: asyncpg.CheckViolationError,
    an_internal_error: asyncpg.InternalServerError,
    a_value_out_of_range: asyncpg.NumericValueOutOfRangeError,
}


@pytest.mark.parametrize(
    ("provoke", "expected"),
    [
        *((provoke, PostgresAway) for provoke in AWAY),
        *((provoke, PostgresBusy) for provoke in BUSY),
        *((provoke, PostgresTimeout) for provoke in TIMEOUT),
        *OURS.items(),
    ],
    ids=lambda value: value.__name__,
)
async def test_an_error_means_what_the_table_says(
    connection: Connection, dsn: str, provoke: Callable[[Connection, str], Awaitable[None]], expected: type[Exception]
) -> None:
    """Try again later, or asyncpg's own error where the fault lies in the statement."""
    with pytest.raises(expected) as raised:
        async with asyncio.timeout(DEADLINE_S) as deadline:
            await provoke(connection, dsn)
    assert not deadline.expired()
    assert type(raised.value) is expected or not isinstance(raised.value, PostgresAway)
    assert raised.value.__cause__ is not None or not isinstance(raised.value, PostgresAway)


async def test_a_connection_of_a_pool_that_is_lost_stays_away_until_it_is_given_back(pool: Pool, dsn: str) -> None:
    """Also for whoever goes on with it, as a bulk registration does; the pool's next one works."""
    async with pool.acquire() as connection:
        await end(dsn, connection)
        await closed(connection)
        for _ in range(2):
            with pytest.raises(PostgresAway):
                await connection.fetchval("SELECT 1")
        with pytest.raises(PostgresAway):
            async with connection.transaction():
                await connection.fetchval("SELECT 1")
    assert await pool.fetchval("SELECT 1") == 1


async def test_using_a_connection_after_it_was_given_back_is_a_bug(pool: Pool) -> None:
    """Another task may have it by then."""
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT 1") == 1
    with pytest.raises(asyncpg.InterfaceError):
        await connection.fetchval("SELECT 1")


async def test_a_pool_that_closes_is_away(dsn: str) -> None:
    """Who comes while the process ends is told to try again elsewhere."""
    pool = await postgres.create_pool(dsn, "tests", 1)
    await pool.close()
    with pytest.raises(PostgresAway):
        await pool.fetchval("SELECT 1")


async def test_a_session_that_stands_still_does_not_hold_up_whoever_gives_it_back(
    pool: Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot even be told to stop what it does: after a while it is closed, and the pool has room again."""
    monkeypatch.setattr(postgres_errors, "RELEASE_TIMEOUT_S", 0.1)
    backends: list[int] = []

    async def stand_still() -> None:
        async with asyncio.timeout(DEADLINE_S), pool.acquire() as connection:
            backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
            os.kill(backends[0], signal.SIGSTOP)
            await connection.fetchval("SELECT 1", timeout=0.1)

    try:
        with pytest.raises(PostgresTimeout):
            await stand_still()
        assert await pool.fetchval("SELECT 1") == 1
    finally:
        os.kill(backends[0], signal.SIGCONT)


async def test_what_was_committed_stands_when_postgres_freezes_before_the_connection_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of the caller depends on giving it back: neither an answer nor a refusal becomes "try again"."""
    monkeypatch.setattr(postgres_errors, "RELEASE_TIMEOUT_S", 0.1)
    server = EmbeddedPostgres(tmp_path / "data", durable=False)
    server.start()
    backends: list[int] = []

    async def change(n: int, refusal: Exception | None) -> int:
        async with pool.acquire() as connection:
            async with connection.transaction():
                backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
                await connection.execute("INSERT INTO numbers VALUES ($1)", n)
            await connection.execute("BEGIN")  # only what is under way must be ended when it is given back
            os.kill(backends[-1], signal.SIGSTOP)
            if refusal is not None:
                raise refusal
            return n

    try:
        pool = await postgres.create_pool(server.dsn(), "tests", 1)
        await pool.execute("CREATE TABLE numbers (n int)")
        async with asyncio.timeout(DEADLINE_S):
            assert await change(1, None) == 1
            with pytest.raises(LookupError):
                await change(2, LookupError())
            assert [row["n"] for row in await pool.fetch("SELECT n FROM numbers ORDER BY n")] == [1, 2]
        # On a busy machine others may not be given back in so short a time either.
        assert [record.getMessage() for record in caplog.records].count("postgres_release_failed") >= 2
        await pool.close()
    finally:
        for backend in backends:
            os.kill(backend, signal.SIGCONT)
        server.stop()


async def test_a_cancelled_statement_leaves_its_connection_usable(pool: Pool) -> None:
    """Cancelling is no error of Postgres, and whoever comes next waits for its end."""
    async with pool.acquire() as connection:
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.01)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_postgres_that_stops_starts_or_stands_still_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For statements under way, for those after them, and for new connections."""
    server = EmbeddedPostgres(tmp_path / "data", durable=False)
    server.start()
    try:
        connection = await postgres.connect(server.dsn(), "tests")
        pool = await postgres.create_pool(server.dsn(), "tests", 1)
        assert await pool.fetchval("SELECT 1") == 1
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0)
        server.stop()
        for attempt in (sleeping, connection.execute("SELECT 1"), pool.fetchval("SELECT 1")):
            with pytest.raises(PostgresAway):
                await attempt
        with pytest.raises(PostgresAway):
            await postgres.connect(server.dsn(), "tests")
        server.start()
        assert await pool.fetchval("SELECT 1") == 1
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGSTOP)
        monkeypatch.setattr(postgres, "CONNECT_TIMEOUT_S", 0.2)
        with pytest.raises(PostgresAway):
            await postgres.connect(server.dsn(), "tests")
        os.kill(server.process.pid, signal.SIGCONT)
        await pool.close()
    finally:
        server.stop()


async def test_a_user_whom_postgres_refuses_is_not_away(dsn: str) -> None:
    """Trying again would not help: whoever set it must hear of it."""
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await postgres.connect(dsn.replace("//fleetgate@", "//nobody@"), "tests")


async def test_a_mistake_in_our_sql_is_a_500_and_a_line_in_the_log(
    edge: RunningEdge, acme: Owner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not "Postgres is not available": nobody would look for it, and trying again would not help."""

    async def mistaken(pool: Pool, *_: object, **__: object) -> None:
        await pool.fetch("SELECT $1::int, $2::int", 1)

    monkeypatch.setattr(models, "create", mistaken)
    assert await acme.call("POST", "/models", {"vendor": "Acme", "name": "Sensor"}) == (500, "Internal error")
    [line] = [record for record in caplog.records if record.getMessage() == "request_failed"]
    assert "the server expects 2 arguments" in vars(line)["fields"]["cause"]


async def test_a_transaction_whose_connection_is_still_busy_is_given_up_with_it(pool: Pool) -> None:
    """What failed first is what is told, as after a COPY that broke; nobody gets that connection again."""
    async with pool.acquire() as connection:
        with pytest.raises(PostgresAway, match="broke"):  # noqa: PT012
            async with connection.transaction():
                await connection.execute("CREATE TABLE given_up (n integer)")
                busy = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
                await asyncio.sleep(0)
                raise PostgresAway("broke")
        assert connection.is_closed()
        with pytest.raises(PostgresAway):
            await busy
    assert await pool.fetchval("SELECT to_regclass('given_up')") is None


def test_a_driver_that_lost_its_place_is_away() -> None:
    """The connection broke in mid-COPY, whether or not it is known to be closed by then."""
    for lost in (False, True):
        assert postgres_errors.meaning(asyncpg.InternalClientError("state"), lost=lost) is PostgresAway


async def test_a_pooler_that_refuses_settings_is_named() -> None:
    """It answers the start of a connection as pgbouncer does; that is no outage to wait for."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4), "big")
        start = await reader.readexactly(length - 4)
        if start[:4] == (80877103).to_bytes(4, "big"):  # whether it speaks TLS
            writer.write(b"N")
            length = int.from_bytes(await reader.readexactly(4), "big")
            await reader.readexactly(length - 4)
        fields = b"SFATAL\0C08P01\0Munsupported startup parameter: jit\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(SettingsError, match="a pooler"):
        await postgres.connect(f"postgresql://nobody@127.0.0.1:{port}/none", "tests")
    server.close()


async def test_two_connections_that_are_one_session_are_refused(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a pooler in transaction mode; two sessions are fine."""
    await postgres.check_sessions(dsn)
    shared = await postgres.connect(dsn, "tests")

    async def again(*_: object) -> Connection:
        return shared

    monkeypatch.setattr(postgres, "connect", again)
    with pytest.raises(SettingsError, match="a pooler"):
        await postgres.check_sessions(dsn)


async def test_a_long_copy_has_the_time_that_it_was_given(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only what any statement has."""
    monkeypatch.setattr(postgres, "COMMAND_TIMEOUT_S", 0.2)
    patient = await postgres.connect(dsn, "tests")
    await patient.execute("CREATE TABLE slow (n int)", timeout=DEADLINE_S)

    async def slowly() -> AsyncIterator[tuple[int]]:
        for n in range(3):
            await asyncio.sleep(0.2)
            yield (n,)

    assert await patient.copy_records_to_table("slow", records=slowly(), timeout=DEADLINE_S) == "COPY 3"
    patient.terminate()
