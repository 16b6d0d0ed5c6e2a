"""What a store of bytes must do: five calls, whatever lies behind them.

    put      bytes as they come, under a name that is known when they have all come: whole and on disk, or not at all
    read     a range of them, a piece at a time
    size     how many there are; None when there are none of that name
    delete   for good; what is being read is read to its end where the store can do so
    list     all that is there, what a crash left behind included; but not the history

Names are the SHA-256 of the bytes, so what is put twice is there once, and nothing is ever overwritten by something
else. Who knows which of them are needed is in Postgres (see `schemas.blob_references`). Files of history alone are
named by what they hold, and never twice the same (see `schemas.archive.layout`); Postgres lists them.

Every call raises BlobsAway for what the world does: no such host, no answer in time; BlobsFull for no space left.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

from msgspec import Struct

PIECE_BYTES = 256 * 1024
"""What is read, and given to a store, at once."""
INCOMING = "incoming/"
"""What the names of bytes begin with that have yet to come whole."""


HISTORY = "history/"
"""What the names of files of history begin with."""


class BlobsAway(Exception):
    """The store cannot do it at the moment; the text says why."""


class BlobsFull(BlobsAway):
    """The store takes no more until somebody makes room."""


class NoBlobError(Exception):
    """There are no bytes of this name."""


class Incoming(Protocol):
    """Bytes as they come; `name` is asked for when they have all come."""

    @property
    def name(self) -> str: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Reading(Protocol):
    """A range of bytes being read, a piece at a time. To be closed."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Listed(Struct, frozen=True):
    """Something that lies in a store."""

    name: str
    size: int
    modified_at: datetime


class BlobStore(Protocol):
    """See the module. `close` is called once, when nothing is under way any more."""

    async def put(self, incoming: Incoming) -> None: ...

    async def read(self, name: str, start: int, end: int) -> Reading:
        """The bytes from `start` up to, not including, `end`. Raises NoBlobError."""
        ...

    async def size(self, name: str) -> int | None: ...
    async def delete(self, name: str) -> None: ...
    def list(self) -> AsyncIterator[Listed]: ...
    async def close(self) -> None: ...
