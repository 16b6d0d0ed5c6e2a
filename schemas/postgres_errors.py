"""Errors of Postgres, translated where they enter: whoever runs a statement meets one exception for "try again later".

What a statement raises depends on what happened:

    what happened                                      SQLSTATE                 exception
    the connection is refused, lost or closed          08                       PostgresAway
    shutting down, starting, session ended by it       57P01-05, 25P03-04       PostgresAway
    read-only: a standby, or a primary stepped down    25006                    PostgresAway
    out of disk, memory, connections; I/O errors       53, 58                   PostgresAway
    serialisation failure, deadlock                    40                       PostgresBusy
    a lock was not to be had in time                   55P03                    PostgresBusy
    a cached plan was overtaken by a migration         0A000 of that kind       PostgresBusy
    longer than the statement's limit                  57014, TimeoutError      PostgresTimeout
    one of those, told by a coordinator of its node    XX000 of such words      as above
    a constraint is violated, a value does not fit     23, 22                   asyncpg's own: the store decides
    wrong count or type of arguments, wrong SQL        InterfaceError, 42       asyncpg's own: a bug of ours
    everything else                                                             asyncpg's own: a bug of ours

PostgresBusy and PostgresTimeout are PostgresAway too. asyncpg says `InterfaceError` both for a misuse and for a
connection that was closed before the statement; which of the two it was, the state of the connection tells.

The classes below put this around every method that waits for the server: those of connections, of transactions, and
the acquiring of a connection from a pool. Giving one back raises nothing of the kind: what was committed or read by
then stands. A cursor is read through `batches`. It costs one more coroutine a statement.
"""

import asyncio
import contextlib
import inspect
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, Never, TypeAlias, cast

import asyncpg
from asyncpg.pool import PoolAcquireContext, PoolConnectionProxy
from asyncpg.transaction import Transaction

from schemas import logs

log = logging.getLogger(__name__)

Record: TypeAlias = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[Record] | PoolConnectionProxy[Record]"

COMMAND_TIMEOUT_S = 30
RELEASE_TIMEOUT_S = 5
"""How long a connection may take to end what was cancelled on it when it is given back; after that it is closed."""


class PostgresAway(Exception):
    """Postgres is not there for the moment, or cannot do this at the moment: try again later."""


class PostgresBusy(PostgresAway):
    """Postgres is there, but another transaction was in the way."""


class PostgresTimeout(PostgresBusy):
    """A statement took longer than its limit."""


BY_SQLSTATE: dict[str, type[PostgresAway]] = {
    "08": PostgresAway,  # connection exception
    "25006": PostgresAway,  # read_only_sql_transaction
    "25P03": PostgresAway,  # idle_in_transaction_session_timeout
    "25P04": PostgresAway,  # transaction_timeout
    "40": PostgresBusy,  # transaction rollback: serialization_failure, deadlock_detected
    "53": PostgresAway,  # insufficient resources: disk_full, out_of_memory, too_many_connections
    "55P03": PostgresBusy,  # lock_not_available
    "57014": PostgresTimeout,  # query_canceled: statement_timeout, or an operator
    "57P": PostgresAway,  # admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped, idle_session_timeout
    "58": PostgresAway,  # system error: io_error
}
"""By the whole code or by how it begins; the longest that fits counts."""

_INTERNAL_ERROR = "XX000"
RELAYED: tuple[tuple[re.Pattern[str], type[PostgresAway]], ...] = (
    (re.compile(r"^canceling statement due to lock timeout|^deadlock detected"), PostgresBusy),
    (re.compile(r"^canceling statement"), PostgresTimeout),
    (
        re.compile(
            r"^terminating connection|^the database system is |^could not (?:extend|write|read|open|fsync) file"
            r"|No space left on device|^out of (?:shared )?memory|^sorry, too many clients|^remaining connection slots"
            r"|^cannot execute .+ in a read-only transaction|^failure on connection marked as essential"
            r"|^could not connect to any active placements|^could not find an available connection"
        ),
        PostgresAway,
    ),
)
"""What a coordinator says of a node while it copies there, without the code that the node gave: by its words."""

BY_CLASS: tuple[tuple[type[Exception], type[PostgresAway]], ...] = (
    (asyncpg.InvalidCachedStatementError, PostgresBusy),
    (asyncpg.OutdatedSchemaCacheError, PostgresBusy),
    (asyncpg.InternalClientError, PostgresAway),  # the driver lost its place when the connection broke
    (asyncpg.TargetServerAttributeNotMatched, PostgresAway),  # none of the hosts is a primary at the moment
    (TimeoutError, PostgresTimeout),
    (OSError, PostgresAway),
)
LOST = (asyncpg.InterfaceError, RuntimeError)
"""What the driver or the event loop raises when a connection was lost before or during a statement."""
RAISED = (asyncpg.PostgresError, asyncpg.InternalClientError, OSError, *LOST)


def meaning(error: BaseException, *, lost: bool) -> type[PostgresAway] | None:
    """What an error of the driver means; None when it is a bug of ours.

    `lost` says whether the connection was closed by then.
    """
    for kind, away in BY_CLASS:
        if isinstance(error, kind):
            return away
    if isinstance(error, asyncpg.PostgresError):
        state: str = getattr(error, "sqlstate", None) or ""
        if state == _INTERNAL_ERROR:
            return next((away for words, away in RELAYED if words.search(str(error))), None)
        return next((BY_SQLSTATE[state[:n]] for n in (5, 3, 2) if state[:n] in BY_SQLSTATE), None)
    if lost and isinstance(error, LOST) and not isinstance(error, asyncpg.DataError):
        return PostgresAway
    return None


def translate(error: Exception, *, lost: bool) -> Never:
    """Raise an error as what it means, or as it is."""
    away = meaning(error, lost=lost)
    if away is None:
        raise error
    raise away(str(error) or type(error).__name__) from error


def _translating(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(method)
    async def call(self: "TranslatingConnection", *arguments: Any, **options: Any) -> Any:
        try:
            return await method(self, *arguments, **options)
        except RAISED as error:
            translate(error, lost=self.is_closed())

    return call


class TranslatingConnection(asyncpg.Connection):
    """A connection whose coroutine methods raise PostgresAway."""

    def transaction(self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False) -> Transaction:
        """A transaction or savepoint that begins and ends translated."""
        if self.is_closed():
            raise PostgresAway("the connection is closed")
        return TranslatingTransaction(self, isolation, readonly, deferrable)

    def get_reset_query(self) -> str:
        """Nothing is reset when a connection of a pool is given back, which would cost a round trip each time.

        Whoever changes a session (SET, LISTEN, locks, temporary tables) has a connection of their own.
        """
        return ""

    async def copy_records_to_table(self, table_name: str, *, timeout: float | None = None, **options: Any) -> str:  # noqa: ASYNC109
        """COPY rows into a table; `timeout` holds from beginning to end, and a lost connection ends it."""
        async with self._copying(timeout):
            return await super().copy_records_to_table(table_name, timeout=timeout, **options)

    async def copy_to_table(self, table_name: str, *, timeout: float | None = None, **options: Any) -> str:  # noqa: ASYNC109
        """COPY what is in the format of a file into a table, within the same limits."""
        async with self._copying(timeout):
            return await super().copy_to_table(table_name, timeout=timeout, **options)

    @contextlib.asynccontextmanager
    async def _copying(self, timeout: float | None) -> AsyncIterator[None]:  # noqa: ASYNC109
        """asyncpg waits for room to write without looking at the time or the connection, so it would wait for ever."""
        async with asyncio.timeout(timeout or COMMAND_TIMEOUT_S) as limit:
            copying = True

            def lost(_: object) -> None:
                if copying:  # else it ended in the same turn of the event loop
                    limit.reschedule(0)

            self.add_termination_listener(lost)
            try:
                yield
            finally:
                copying = False
                self.remove_termination_listener(lost)


for _name, _method in inspect.getmembers(TranslatingConnection, inspect.iscoroutinefunction):
    if not _name.startswith("_"):
        setattr(TranslatingConnection, _name, _translating(_method))


class TranslatingTransaction(Transaction):
    """A transaction: leaving one whose connection was lost is a misuse to asyncpg, for us Postgres is away.

    Where its rollback is not possible, because the statement that failed has not let go of the connection (a COPY that
    broke), the connection is ended, and the transaction with it: what failed first is what is told.
    """

    async def __aexit__(self, extype: object, ex: object, tb: object) -> None:
        try:
            await super().__aexit__(extype, ex, tb)
        except (asyncpg.InterfaceError, PostgresAway) as error:
            if ex is not None:
                self._connection.terminate()  # type: ignore[attr-defined]
                return
            translate(error, lost=self._connection.is_closed())  # type: ignore[attr-defined]


class TranslatingPool(asyncpg.Pool):
    """A pool of such connections."""

    def acquire(self, *, timeout: float | None = None) -> "PoolAcquireContext[Record]":
        """A connection for as long as the context lasts."""
        return _Acquire(self, timeout)


class _Acquire(PoolAcquireContext):
    _lease: "_Lease | None" = None

    async def __aenter__(self) -> "PoolConnectionProxy[Record]":
        try:
            proxy = await super().__aenter__()
        except RAISED as error:
            translate(error, lost=self.pool.is_closing())
        self._lease = _Lease(proxy._con)  # type: ignore[attr-defined]
        return cast("PoolConnectionProxy[Record]", self._lease)

    async def __aexit__(self, *exc: object) -> None:
        assert self._lease is not None
        assert self.connection is not None
        proxy, self.connection, self._lease.connection = self.connection, None, None
        try:
            await self.pool.release(proxy, timeout=RELEASE_TIMEOUT_S)
        except (
            PostgresAway,
            *RAISED,
        ) as error:  # asyncpg has terminated the connection; what the body did or raised stands
            logs.event(log, logging.WARNING, "postgres_release_failed", cause=repr(error))


class _Lease:
    """The connection of a pool, until it is released; to use it afterwards is a bug.

    It stands where asyncpg's own proxy would, which calls a connection that was lost in use released as well.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: TranslatingConnection) -> None:
        self.connection: TranslatingConnection | None = connection

    def __repr__(self) -> str:
        return f"<Lease of {self.connection!r}>"

    def __getattr__(self, name: str) -> Any:
        if self.connection is None:
            raise asyncpg.InterfaceError(f"{name} of a connection that was released to its pool")
        return getattr(self.connection, name)


async def batches(connection: Connection, sql: str, *arguments: Any, size: int) -> AsyncIterator[list[Record]]:
    """The rows of a query, at most `size` at a time, inside a transaction."""
    try:
        cursor = await connection.cursor(sql, *arguments)
        while rows := await cursor.fetch(size):
            yield rows
    except RAISED as error:
        translate(error, lost=connection.is_closed())


async def fetch_some(
    connection: Connection, sql: str, *arguments: Any, first: int, take: Callable[[list[Record]], Awaitable[int]]
) -> None:
    """Fetch the rows of a query some at a time, inside a transaction.

    `take` is given them and says how many to fetch next; 0 ends it, as the end of the rows does.
    """
    try:
        cursor = await connection.cursor(sql, *arguments)
        size = first
        while size and (rows := await cursor.fetch(size)):
            asked, size = size, await take(rows)
            if len(rows) < asked:
                return
    except RAISED as error:
        translate(error, lost=connection.is_closed())
