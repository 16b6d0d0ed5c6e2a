"""Connecting to Postgres, migrating it, and what every process checks before it starts."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec

from schemas import ids
from schemas.authorities import trusting
from schemas.master_keys import Generation
from schemas.postgres_errors import (
    COMMAND_TIMEOUT_S,
    RAISED,
    Connection,
    PostgresAway,
    PostgresBusy,
    PostgresTimeout,
    TranslatingConnection,
    TranslatingPool,
    batches,
    fetch_some,
    translate,
)
from schemas.settings import SettingsError

__all__ = ["Connection", "PostgresAway", "PostgresBusy", "PostgresTimeout", "batches", "fetch_some"]

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Executor: TypeAlias = "Connection | Pool"
"""Whatever runs a single statement."""

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_TIMEOUT_S = 10
POOL_CONNECT_TIMEOUT_S = 5
QUERIES_MAX = 50_000
IDLE_S = 300.0
"""A pool's connection is closed after so many statements, and after so long without one, as asyncpg does by default."""
PARTITIONS_AHEAD_DAYS = 3
_DSN = "FLEETGATE_POSTGRES_DSN"
_POOLED = (
    "the Postgres address is that of a pooler that gives every transaction another session, or refuses settings "
    "(pgbouncer in transaction mode, say); fleetgate holds locks and prepared statements in a session: give it the "
    "address of Postgres itself, or a pooler in session mode with ignore_startup_parameters = jit"
)
_MIGRATION_LOCK = 0x666C6565
_MIGRATION_LOCK_POLL_S = 0.2
MIGRATION_TIMEOUT_S = 86_400.0
"""Building the index of a large table takes its time."""
_IN_TRANSACTION = "\n-- In one transaction:\n"


async def _prepare(connection: Connection) -> None:
    """JSON columns are Python values on our side; `msgspec.Raw` passes prepared bytes through."""
    await connection.set_type_codec(
        "json", schema="pg_catalog", format="binary", encoder=msgspec.json.encode, decoder=msgspec.json.decode
    )


def _server_settings(process: str) -> dict[str, str]:
    return {"application_name": f"fleetgate {process}", "timezone": "UTC", "jit": "off"}


async def connect(dsn: str, process: str) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection, for whoever must keep a session (locks, migrations, one-off commands).

    This one and those of a pool raise PostgresAway for what the world does (see `postgres_errors`).
    """
    connection = await _connect(
        dsn,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings=_server_settings(process),
        connection_class=TranslatingConnection,
    )
    await _prepare(connection)
    return connection


async def _connect(*arguments: Any, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    try:
        return await asyncpg.connect(*arguments, **options)
    except TimeoutError as error:
        raise PostgresAway("no answer to the connection attempt") from error
    except asyncpg.ProtocolViolationError as error:
        if "unsupported startup parameter" in str(error):
            raise SettingsError(_POOLED) from error
        translate(error, lost=False)
    except asyncpg.ClientConfigurationError as error:
        raise SettingsError(f"{_DSN} is not usable: {error}") from error
    except RAISED as error:
        translate(error, lost=False)


async def check_sessions(dsn: str) -> None:
    """Raises SettingsError where two connections are not two sessions: a pooler hands them out for each transaction.

    Where the DSN names authorities that cannot be read, too: to a connection that looks like a server that is away.
    """
    for ca in parse_qs(urlsplit(dsn).query).get("sslrootcert", ()):
        trusting(ca, f"sslrootcert of {_DSN}")
    try:
        async with contextlib.AsyncExitStack() as connections:
            pids = []
            for _ in range(2):
                connection = await connect(dsn, "check")
                connections.push_async_callback(connection.close)
                pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
    except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
        raise SettingsError(_POOLED) from error
    if pids[0] == pids[1]:
        raise SettingsError(_POOLED)


async def create_pool(dsn: str, process: str, size: int) -> Pool:
    """A pool whose connections carry the process's name. It connects on first use, so Postgres may be away."""
    pool = TranslatingPool(
        dsn,
        min_size=0,
        max_size=size,
        max_queries=QUERIES_MAX,
        max_inactive_connection_lifetime=IDLE_S,
        loop=None,
        connect=_connect,
        connection_class=TranslatingConnection,
        record_class=asyncpg.Record,
        init=_prepare,
        timeout=POOL_CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings=_server_settings(process),
    )
    await pool
    return pool


async def migrate(connection: Connection, *, shards: int, master_key: str) -> list[str]:
    """Apply the migrations that are missing, one after the other; returns their names.

    The first run fixes the number of shards and remembers a fingerprint of the master key. Runs that race wait for
    each other. Raises SettingsError, and applies nothing, when this program's migrations do not lead on from what was
    applied (see `_missing`).
    """
    applied: list[str] = []
    async with migrating(connection):
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
        )
        await connection.execute("ALTER TABLE migrations ADD COLUMN IF NOT EXISTS sha256 text")
        for path in await _missing(connection):
            await _apply(connection, path.stem, path.read_text(), _checksum(path))
            applied.append(path.stem)
        # Those applied before there were checksums.
        await connection.executemany(
            "UPDATE migrations SET sha256 = $2 WHERE name = $1 AND sha256 IS NULL",
            [(path.stem, _checksum(path)) for path in MIGRATIONS.glob("*.sql")],
        )
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO installation (shards, key_fingerprint) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                shards,
                ids.fingerprint(master_key),
            )
            fixed = await connection.fetchval("SELECT shards FROM installation")
            await connection.execute(
                "INSERT INTO shards (shard) SELECT generate_series(0, $1 - 1) ON CONFLICT DO NOTHING", fixed
            )
            await connection.execute("SELECT create_event_partitions($1)", PARTITIONS_AHEAD_DAYS)
    return applied


@contextlib.asynccontextmanager
async def migrating(connection: Connection) -> AsyncIterator[None]:
    """Be the only one who changes the schema; others who want to wait."""
    # By asking again and again: CREATE INDEX CONCURRENTLY waits for every statement that is under way, and so would
    # wait for one that waits for this lock.
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _MIGRATION_LOCK):  # noqa: ASYNC110
        await asyncio.sleep(_MIGRATION_LOCK_POLL_S)
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK)


async def _missing(executor: Any) -> list[Path]:
    """The migrations still to be applied, in their order.

    Raises SettingsError when others were applied than this program has: it is too old for the database, or a migration
    was changed after it was applied, so that nobody knows what the schema is.
    """
    # A database that was migrated before there were checksums has no such column.
    rows = await executor.fetch("SELECT name, to_json(m) ->> 'sha256' AS sha256 FROM migrations m ORDER BY name")
    files = {path.stem: path for path in sorted(MIGRATIONS.glob("*.sql"))}
    if unknown := [row["name"] for row in rows if row["name"] not in files]:
        raise SettingsError(
            f"the database has the migrations {', '.join(unknown)}, which this program does not know: "
            "it was migrated by a newer fleetgate, run that version"
        )
    if changed := [row["name"] for row in rows if row["sha256"] not in (None, _checksum(files[row["name"]]))]:
        raise SettingsError(
            f"the migrations {', '.join(changed)} were applied to the database with another text than they have here: "
            "run the fleetgate that migrated it"
        )
    applied = {row["name"] for row in rows}
    return [path for name, path in files.items() if name not in applied]


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def _apply(connection: Connection, name: str, text: str, checksum: str) -> None:
    """Apply one migration, in a transaction.

    What stands before the line `-- In one transaction:` is a query for statements that are run outside of one, one by
    one, before it: those that build an index CONCURRENTLY. They are run again when a run was killed between them.
    """
    before, _, inside = text.rpartition(_IN_TRANSACTION)
    for row in await connection.fetch(before) if before else ():
        await connection.execute(row["statement"], timeout=MIGRATION_TIMEOUT_S)
    async with connection.transaction():
        await connection.execute(inside, timeout=MIGRATION_TIMEOUT_S)
        await connection.execute("INSERT INTO migrations (name, sha256) VALUES ($1, $2)", name, checksum)


class Installation(NamedTuple):
    """What all processes of an installation must know of it."""

    shards: int
    generations: tuple[Generation, ...]
    """Those of the master key, oldest first."""


async def installation(executor: Any) -> Installation:
    """Read it from a pool or connection.

    Raises SettingsError when the schema is missing, behind this program, ahead of it, or another.
    """
    try:
        missing = await _missing(executor)
    except asyncpg.UndefinedTableError:
        missing = sorted(MIGRATIONS.glob("*.sql"))
    if missing:
        names = ", ".join(path.stem for path in missing)
        raise SettingsError(f"the database lacks the migrations {names}: run `fleetgate migrate`")
    shards = await executor.fetchval("SELECT shards FROM installation")
    rows = await executor.fetch(
        "SELECT generation, fingerprint, retired_at IS NOT NULL AS retired FROM master_keys ORDER BY generation"
    )
    return Installation(shards, tuple(Generation(*row) for row in rows))
