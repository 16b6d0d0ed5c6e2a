"""Rows in the binary format of COPY, packed here: asyncpg asks a codec for every value, which takes four times as long.

A row is the number of its columns and, for each of them, the length of the value and the value; -1 stands for null.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

from schemas.postgres import Connection

NULL = b"\xff\xff\xff\xff"
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_PARTS = 250
"""In one message to Postgres, each of which is written to the socket by itself: some hundred kilobytes."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moments(dict[datetime, int]):
    """Times as Postgres stores them. The messages of an entry share one, so each is converted once."""

    def __missing__(self, moment: datetime) -> int:
        stored = self[moment] = (moment - _EPOCH) // _MICROSECOND
        return stored


def value(content: bytes | None) -> bytes:
    """A value behind its length."""
    return NULL if content is None else len(content).to_bytes(4) + content


async def copy(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[bytes]) -> None:
    """Add rows with these columns to a table."""
    await connection.copy_to_table(table, source=_file(rows), columns=columns, format="binary")


async def _file(rows: Sequence[bytes]) -> AsyncIterator[bytes]:
    parts = [_HEADER, *rows, _END]
    for first in range(0, len(parts), _PARTS):
        yield b"".join(parts[first : first + _PARTS])
