"""`fleetgate migrate`: brings the database's schema up to date. To run it again, or twice at once, does no harm.

With --distribute it also spreads what grows with messages over the nodes of a Citus cluster; without it nothing moves.
"""

import argparse
import contextlib
import os
from collections.abc import AsyncIterator

import asyncpg

from gateway.operations.postgres_server import ServersError, connect
from schemas import distribution, postgres
from schemas.command_settings import MigrateSettings
from schemas.environment import listing, load
from schemas.master_keys import MasterKeys


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "migrate",
        help="bring the database's schema up to date",
        description=__doc__,
        epilog=listing(MigrateSettings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--distribute",
        action="store_true",
        help="spread events and states over the nodes of a Citus cluster whose coordinator this database is",
    )
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Migrate and say what was done."""
    settings = load(MigrateSettings, os.environ)
    applied = await migrate(settings)
    print("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")
    if arguments.distribute:
        done = await distribute(settings)
        print("\n".join(f"distributed {what}" for what in done) or "all is distributed")
    return 0


async def migrate(settings: MigrateSettings) -> list[str]:
    """Migrate; returns the names of what was applied.

    Raises SettingsError for another database's master key, ServersError when Postgres is away or does not let us.
    """
    async with _allowed(settings) as connection:
        applied = await postgres.migrate(connection, shards=settings.shards, master_key=settings.master_key)
        MasterKeys.fitting((await postgres.installation(connection)).generations, settings)
        return applied


async def distribute(settings: MigrateSettings) -> list[str]:
    """Spread the data plane over the nodes of a cluster; returns what was done.

    Raises SettingsError where the database is no coordinator that can do so, ServersError when Postgres is away or does
    not let us.
    """
    async with _allowed(settings) as connection:
        return await distribution.distribute(connection)


@contextlib.asynccontextmanager
async def _allowed(settings: MigrateSettings) -> AsyncIterator[postgres.Connection]:
    """A connection; what this user may not do is the server's."""
    connection = await connect(settings.postgres_dsn, "migrate")
    try:
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise ServersError(f"Postgres does not let this user make the schema: {error}") from None
    except postgres.PostgresAway as error:
        raise ServersError(f"Postgres or one of its nodes is away: {error}") from None
    finally:
        await connection.close()
