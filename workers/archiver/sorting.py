"""Puts the rows of a shard's day into the order of files, by way of a file on this machine.

    pieces, in the order of the log ──▶ sorted, cut at the keys between ranges ──▶ one file of all cuts
                                                       each range's cuts, sorted ◀──┘ ──▶ in the order of files

Held at a time are a piece, or a range. The keys between ranges are taken from a sample, so ranges are of like size.
"""

import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from workers.archiver.reading import Sample

Key = tuple[str, str, int]

RANGE_BYTES = 64 * 1024 * 1024
RANGES_MAX = 256
"""Sixteen rows of the sample each, so that none is much larger than the others."""
_ORDER = [(name, "ascending") for name in ("project_id", "device_id", "ts", "seq")]
_BEHIND_ALL = "~"
"""Rows without a project come last."""


class Sorting:
    """Takes rows in any order and gives them back in order."""

    def __init__(self, path: Path, sample: Sample) -> None:
        self._path = path
        self._cuts = _between(sample)
        self._ranges: list[list[int]] = [[] for _ in range(len(self._cuts) + 1)]
        self._batches = 0
        self._writer: pa.RecordBatchFileWriter | None = None

    def __repr__(self) -> str:
        return f"<Sorting {self._path}, {len(self._ranges)} ranges>"

    def take(self, table: pa.Table) -> None:
        """Some rows."""
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._writer = pa.ipc.new_file(str(self._path), table.schema, options=options)
        begin = 0
        if self._cuts:
            table = table.sort_by(_ORDER)
        for of_range, end in zip(self._ranges, self._ends(table), strict=True):
            for batch in table.slice(begin, end - begin).to_batches():
                self._writer.write_batch(batch)
                of_range.append(self._batches)
                self._batches += 1
            begin = end

    def ordered(self) -> Iterator[pa.Table]:
        """All rows that were taken, range by range."""
        if self._writer is None:
            return
        self._writer.close()
        with pa.memory_map(str(self._path)) as file:
            reader = pa.ipc.open_file(file)
            for batches in self._ranges:
                if batches:
                    yield pa.Table.from_batches(map(reader.get_batch, batches)).sort_by(_ORDER)

    def _ends(self, table: pa.Table) -> list[int]:
        """Where each range ends in a sorted table."""
        columns = [table[name] for name in ("project_id", "device_id", "ts")]

        def key(place: int) -> Key:
            return _key(*(column[place].as_py() for column in columns))

        return [*(bisect.bisect_left(range(len(table)), cut, key=key) for cut in self._cuts), len(table)]


def _between(sample: Sample) -> Sequence[Key]:
    """The keys that part the rows into ranges."""
    ranges = min(RANGES_MAX, -(-sample.bytes // RANGE_BYTES))
    keys = sorted(_key(*key) for key in sample.keys)
    return sorted({keys[len(keys) * number // ranges] for number in range(1, ranges)}) if keys else []


def _key(project_id: str | None, device_id: str, ts: int) -> Key:
    return project_id or _BEHIND_ALL, device_id, ts
