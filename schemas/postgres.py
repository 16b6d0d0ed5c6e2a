"""Connecting to Postgres, migrating it, and what every process checks before it starts."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import asyncpg
import msgspec

from schemas import ids
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
    translate,
)
from schemas.settings import SettingsError

__all__ = ["Connection", "PostgresAway", "PostgresBusy", "PostgresTimeout", "batches"]

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
_MIGRATION_LOCK = 0x666C6565
_MIGRATION_LOCK_POLL_S = 0.2
_MIGRATION_TIMEOUT_S = 86_400.0
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
    except RAISED as error:
        translate(error, lost=False)


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
    each other.
    """
    applied: list[str] = []
    # By asking again and again: CREATE INDEX CONCURRENTLY waits for every statement that is under way, and so would
    # wait for one that waits for this lock.
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _MIGRATION_LOCK):  # noqa: ASYNC110
        await asyncio.sleep(_MIGRATION_LOCK_POLL_S)
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
        )
        done = {row["name"] for row in await connection.fetch("SELECT name FROM migrations")}
        for path in sorted(MIGRATIONS.glob("*.sql")):
            if path.stem in done:
                continue
            await _apply(connection, path.stem, path.read_text())
            applied.append(path.stem)
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
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK)
    return applied


async def _apply(connection: Connection, name: str, text: str) -> None:
    """Apply one migration, in a transaction.

    What stands before the line `-- In one transaction:` is a query for statements that are run outside of one, one by
    one, before it: those that build an index CONCURRENTLY. They are run again when a run was killed between them.
    """
    before, _, inside = text.rpartition(_IN_TRANSACTION)
    for row in await connection.fetch(before) if before else ():
        await connection.execute(row["statement"], timeout=_MIGRATION_TIMEOUT_S)
    async with connection.transaction():
        await connection.execute(inside, timeout=_MIGRATION_TIMEOUT_S)
        await connection.execute("INSERT INTO migrations (name) VALUES ($1)", name)


class Installation(NamedTuple):
    """What was fixed when the database was first migrated."""

    shards: int
    key_fingerprint: bytes


async def installation(executor: Any) -> Installation:
    """Read it from a pool or connection. Raises SettingsError when the schema is missing or behind this program."""
    try:
        done = {row["name"] for row in await executor.fetch("SELECT name FROM migrations")}
    except asyncpg.UndefinedTableError:
        done = set()
    missing = [path.stem for path in sorted(MIGRATIONS.glob("*.sql")) if path.stem not in done]
    if missing:
        raise SettingsError(f"the database lacks the migrations {', '.join(missing)}: run `fleetgate migrate`")
    row = await executor.fetchrow("SELECT shards, key_fingerprint FROM installation")
    return Installation(row["shards"], row["key_fingerprint"])


def check_master_key(found: Installation, master_key: str) -> None:
    """Raises SettingsError when this is not the key that the fleet's access keys were derived from."""
    if ids.fingerprint(master_key) != found.key_fingerprint:
        raise SettingsError(
            "FLEETGATE_MASTER_KEY is not the key of this database: with it every device would be turned away"
        )
