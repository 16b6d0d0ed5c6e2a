"""Reading files of the archive, from any store, by pieces: footers are remembered, columns of single groups fetched.

    footer (once) ──▶ which groups may hold it, by least and greatest ──▶ their columns, a range each ──▶ rows

Bytes come by the store's own means and are decoded by few threads, so the event loop is free for others, and what is
held at a time is a group of each thread, whatever the files' size.
"""

import asyncio
import bisect
import io
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.archive.listing import DamagedError
from schemas.blobs.store import BlobStore

THREADS = 2
FOOTER_BYTES = 256 * 1024
"""Read first from the end of a file; most footers are shorter."""
FOOTERS_BYTES_MAX = 32 * 1024 * 1024
"""Of footers that are remembered, as they are in the files."""
GAP_BYTES = 64 * 1024
"""Columns of a group that are no further apart are fetched by one call."""
T = TypeVar("T")

_MAGIC = b"PAR1"


class Archived:
    """A file, by its footer."""

    def __init__(self, name: str, size: int, footer: Any) -> None:
        self.name = name
        self.size = size
        self.footer = footer
        self._places: dict[str, list[int]] = {}
        for place in range(footer.num_columns):
            self._places.setdefault(footer.schema.column(place).path.partition(".")[0], []).append(place)
        self._bounds: dict[tuple[str, int], tuple[Any, Any]] = {}

    def __repr__(self) -> str:
        return f"<Archived {self.name}>"

    @property
    def groups(self) -> int:
        """How many groups of rows it has."""
        count: int = self.footer.num_row_groups
        return count

    def rows(self, group: int) -> int:
        """How many rows a group has."""
        count: int = self.footer.row_group(group).num_rows
        return count

    def groups_with(self, column: str, values: Sequence[Any]) -> list[int]:
        """The groups that may hold one of these values, which are sorted."""
        bounds = [self.bounds(group, column) for group in range(self.groups)]
        return [
            group
            for group, (least, greatest) in enumerate(bounds)
            if bisect.bisect_left(values, least) < bisect.bisect_right(values, greatest)
        ]

    def bounds(self, group: int, column: str) -> tuple[Any, Any]:
        """The least and the greatest value of a column in a group. Looked up once: the footer's own are slow to ask."""
        if (found := self._bounds.get((column, group))) is None:
            (place,) = self._places[column]
            statistics = self.footer.row_group(group).column(place).statistics
            found = self._bounds[column, group] = statistics.min, statistics.max
        return found

    def spans(self, group: int, columns: Sequence[str]) -> list[tuple[int, int]]:
        """Where the columns of a group lie in the file."""
        found: list[tuple[int, int]] = []
        for place in sorted(place for column in columns for place in self._places[column]):
            chunk = self.footer.row_group(group).column(place)
            begin = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
            end = begin + chunk.total_compressed_size
            if found and begin - found[-1][1] <= GAP_BYTES:
                found[-1] = found[-1][0], end
            else:
                found.append((begin, end))
        return found


class Files:
    """Opens files and reads them."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(THREADS, "archive")
        self._opened: OrderedDict[str, Archived] = OrderedDict()
        self._remembered_bytes = 0

    def __repr__(self) -> str:
        return f"<Files {self._store!r}, {len(self._opened)} footers>"

    async def open(self, name: str, size: int) -> Archived:
        """A file by its name. Raises NoBlobError, BlobsAway, DamagedError."""
        if found := self._opened.get(name):
            self._opened.move_to_end(name)
            return found
        end = await self._fetch(name, max(0, size - FOOTER_BYTES), size)
        length = int.from_bytes(end[-8:-4], "little") + 8
        if end[-4:] != _MAGIC or length > size:
            raise DamagedError(name)
        if length > len(end):
            end = await self._fetch(name, size - length, size)
        file = Archived(name, size, await self._in_thread(lambda: pq.read_metadata(pa.BufferReader(end))))
        if name not in self._opened:
            self._opened[name] = file
            self._remembered_bytes += length
            while self._remembered_bytes > FOOTERS_BYTES_MAX and len(self._opened) > 1:
                _, old = self._opened.popitem(last=False)
                self._remembered_bytes -= old.footer.serialized_size + 8
        return file

    async def group(
        self, file: Archived, number: int, columns: Sequence[str], then: Callable[[pa.Table], T] = lambda table: table
    ) -> T:
        """What `then` makes, in a thread, of a table with columns of a group of rows.

        Raises NoBlobError, BlobsAway, DamagedError.
        """
        pieces = {begin: await self._fetch(file.name, begin, end) for begin, end in file.spans(number, columns)}
        return await self._in_thread(lambda: then(_decoded(file, number, columns, pieces)))

    async def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _fetch(self, name: str, begin: int, end: int) -> bytes:
        reading = await self._store.read(name, begin, end)
        try:
            return b"".join([piece async for piece in reading])
        finally:
            await reading.aclose()

    async def _in_thread(self, act: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, act)
        except (pa.ArrowException, OSError) as error:
            raise DamagedError(str(error)) from error


class _Fetched(io.RawIOBase):
    """The parts of a file that were fetched, for a reader that wants a file."""

    def __init__(self, size: int, pieces: dict[int, bytes]) -> None:
        self._size = size
        self._pieces = pieces
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, length: int = -1) -> bytes:
        for begin, piece in self._pieces.items():
            if begin <= self._at < begin + len(piece):
                found = piece[self._at - begin : self._at - begin + length]
                self._at += len(found)
                return found
        raise OSError(f"bytes from {self._at} on were not fetched")


def _decoded(file: Archived, number: int, columns: Sequence[str], pieces: dict[int, bytes]) -> Any:
    source = pa.PythonFile(_Fetched(file.size, pieces), mode="r")
    reader = pq.ParquetFile(source, metadata=file.footer)
    return reader.read_row_group(number, columns=list(columns), use_threads=False)
