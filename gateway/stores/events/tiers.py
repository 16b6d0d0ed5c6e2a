"""The event log in its two tiers: hot days in Postgres, days that were moved in files; each day in one of them.

    moving: lock `moved_days` ──▶ drop the day's partition, and say that the day is moved ──▶ commit
    reading: lock `moved_days`, shared ──▶ snapshot ──▶ which days are moved, and all the rest

A reader's snapshot is taken behind its lock, so it sees a day in one tier, never in both or neither, however long it
reads. What reads files is loaded when a reader first meets one (`archived`).
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec import Struct

from gateway.refusals import Unavailable, retry_after_s
from schemas import logs
from schemas.archive import listing
from schemas.archive.listing import DamagedError, Moved
from schemas.blobs.store import BlobStore, NoBlobError
from schemas.postgres import Connection, Pool

if TYPE_CHECKING:
    from schemas.archive.files import Files

log = logging.getLogger(__name__)

LOCK = "LOCK TABLE moved_days IN ACCESS SHARE MODE"
NO_READER = "History of this time lies in files, and this gateway lacks what reads them: fleetgate[archive]"
UNREADABLE = "History of this time cannot be read at the moment"
FILES_AT_ONCE = 1_000
"""That are listed by one statement."""

Position = tuple[datetime, int, int]
"""Where an event stands in the order of a list: its time, and shard and sequence to tell equals apart."""


class Wanted(Struct, kw_only=True):
    """Which events fit."""

    since: datetime
    until: datetime
    device_ids: list[UUID] | None = None
    project_ids: list[UUID] | None = None
    types: list[str] | None = None
    status: str | None = None
    meeting: Callable[[list[UUID]], Awaitable[list[UUID]]] | None = None
    """Which of these devices fit."""


class MovedFiles:
    """Files of moved days that may hold what is wanted, those with the latest events first, listed as they are read."""

    def __init__(self, more: Callable[[Moved | None], Awaitable[list[Moved]]], first: list[Moved]) -> None:
        self._more = more
        self._found = first
        self._whole = len(first) < FILES_AT_ONCE

    def __repr__(self) -> str:
        return f"<MovedFiles {len(self._found)}>"

    def __bool__(self) -> bool:
        return bool(self._found)

    async def __aiter__(self) -> AsyncIterator[Moved]:
        place = 0
        while True:
            if place == len(self._found) and not self._whole:
                some = await self._more(self._found[-1])
                self._found += some
                self._whole = len(some) < FILES_AT_ONCE
            if place == len(self._found):
                return
            yield self._found[place]
            place += 1


class Tiers:
    """Where the log is read from."""

    def __init__(self, postgres: Pool, blobs: BlobStore) -> None:
        self.postgres = postgres
        self._blobs = blobs
        self._files: Files | None = None

    def __repr__(self) -> str:
        return f"<Tiers {self._files!r}>"

    @contextlib.asynccontextmanager
    async def reading(self, settings: str = "") -> AsyncIterator[Connection]:
        """A connection, in a transaction all statements of which see the same, with settings of Postgres."""
        async with (
            self.postgres.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(LOCK)
            if settings:  # by themselves: where the log is distributed its nodes are told the same words
                await connection.execute(settings)
            try:
                yield connection
            except (NoBlobError, DamagedError) as error:
                logs.event(log, logging.ERROR, "history_file_unreadable", cause=repr(error))
                raise Unavailable(UNREADABLE, retry_after_s=retry_after_s()) from error

    async def moved(
        self,
        connection: Connection,
        shards: Sequence[int],
        since: datetime,
        until: datetime,
        *,
        project_ids: Sequence[UUID] | None = None,
        device_ids: Sequence[UUID] | None = None,
    ) -> MovedFiles:
        """The files of moved days that may hold such events, to be read while the connection has its snapshot."""

        async def more(behind: Moved | None) -> list[Moved]:
            return await listing.moved(connection, shards, since, until, project_ids, device_ids, FILES_AT_ONCE, behind)

        return MovedFiles(more, await more(None))

    @property
    def files(self) -> "Files":
        """What reads them. Raises Unavailable."""
        if self._files is None:
            try:
                from schemas.archive.files import Files
            except ImportError:
                raise Unavailable(NO_READER) from None
            self._files = Files(self._blobs)
        return self._files

    async def close(self) -> None:
        """Let go of what reads files."""
        if self._files is not None:
            await self._files.close()
