"""`fleetgate migrate`: brings the database's schema up to date. To run it again, or twice at once, does no harm."""

import argparse
import os

from schemas import postgres
from schemas.settings import PREFIX, MigrateSettings, load


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "migrate",
        help="bring the database's schema up to date",
        description=f"{__doc__}\nReads {PREFIX}POSTGRES_DSN and {PREFIX}MASTER_KEY; the first run fixes the number of "
        f"shards ({PREFIX}SHARDS).",
    )
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Migrate and say what was done."""
    settings = load(MigrateSettings, os.environ)
    applied = await migrate(settings)
    print("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")
    return 0


async def migrate(settings: MigrateSettings) -> list[str]:
    """Migrate; returns the names of what was applied. Raises SettingsError for another database's master key."""
    connection = await postgres.connect(settings.postgres_dsn, "migrate")
    try:
        applied = await postgres.migrate(connection, shards=settings.shards, master_key=settings.master_key)
        postgres.check_master_key(await postgres.installation(connection), settings.master_key)
        return applied
    finally:
        await connection.close()
