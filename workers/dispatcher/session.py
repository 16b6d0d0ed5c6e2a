"""One Postgres connection of a loop that runs all the time: a pool would reset it after every statement."""

from collections.abc import Awaitable, Callable

from schemas import postgres
from schemas.postgres import Connection


class Session:
    """Connects on first use and again after it was lost. For one loop: two never use it at once."""

    def __init__(self, dsn: str, name: str, prepare: Callable[[Connection], Awaitable[None]] | None = None) -> None:
        self._dsn = dsn
        self._name = name
        self._prepare = prepare
        self._connection: Connection | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it has no connection (any more)."""
        return self._connection is None or self._connection.is_closed()

    async def get(self) -> Connection:
        """The connection. Raises PostgresAway."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await postgres.connect(self._dsn, self._name)
            if self._prepare is not None:
                await self._prepare(self._connection)
        return self._connection

    async def drop(self) -> None:
        """Close it after an error whose effect on it is unknown, or at the end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=2)
            except postgres.PostgresAway:
                return
