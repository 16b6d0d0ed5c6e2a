"""`fleetgate migrate`: brings the database's schema up to date. To run it again, or twice at once, does no harm."""

import argparse
import os

import asyncpg

from gateway.operations.postgres_server import ServersError, connect
from schemas import postgres
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
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Migrate and say what was done."""
    settings = load(MigrateSettings, os.environ)
    applied = await migrate(settings)
    print("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")
    return 0


async def migrate(settings: MigrateSettings) -> list[str]:
    """Migrate; returns the names of what was applied.

    Raises SettingsError for another database's master key, ServersError when Postgres is away or does not let us.
    """
    connection = await connect(settings.postgres_dsn, "migrate")
    try:
        applied = await postgres.migrate(connection, shards=settings.shards, master_key=settings.master_key)
        MasterKeys.fitting((await postgres.installation(connection)).generations, settings)
        return applied
    except asyncpg.InsufficientPrivilegeError as error:
        raise ServersError(f"Postgres does not let this user make the schema: {error}") from None
    finally:
        await connection.close()
