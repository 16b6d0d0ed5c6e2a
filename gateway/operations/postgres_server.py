"""A connection of its own to Postgres, for whoever looks at the server rather than works with it."""

import asyncpg

from schemas import postgres

POSTGRES_VERSION_MIN = 15


class ServersError(Exception):
    """A server is not there, or not usable; the text says which and why."""


async def connect(dsn: str, process: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection to Postgres. Raises ServersError with a sentence when there is none to be had, or it is too old."""
    try:
        connection = await postgres.connect(dsn, process)
    except (postgres.PostgresAway, asyncpg.PostgresError, ValueError) as error:
        raise ServersError(f"Postgres is not available: {str(error) or type(error).__name__}") from None
    version = connection.get_server_version()
    if version.major < POSTGRES_VERSION_MIN:
        await connection.close()
        raise ServersError(f"Postgres is version {version.major}; fleetgate needs {POSTGRES_VERSION_MIN} or newer")
    return connection
