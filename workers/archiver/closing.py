"""Writes one closed day of one shard to the archive: copied out, stored, read back, compared, and only then kept.

    Postgres ──pieces──▶ sorted ──▶ files here ──▶ announced ──▶ store ══ bytes, rows, sums ══▶ kept
                                                       └── a crash leaves names, which the next clears away ──┘

Nothing counts before all of it is there and equal, and then all of it at once (see `schemas.archive.listing`). Who lost
the day to another worker finds its announcements gone, and its files do not count.
"""

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

from schemas.archive import layout, listing
from schemas.archive.files import Files
from schemas.archive.listing import DamagedError, Written
from schemas.blobs.store import PIECE_BYTES, BlobStore
from schemas.postgres import Pool
from workers.archiver import scratch
from workers.archiver.reading import Day
from workers.archiver.sorting import Sorting
from workers.archiver.sums import Sums
from workers.archiver.writing import LocalFile, LocalFiles
from workers.checkpoints import Checkpoint


class Closing:
    """Puts days into the archive."""

    def __init__(
        self, pool: Pool, store: BlobStore, files: Files, rest: Callable[[], Awaitable[None]], checkpoint: Checkpoint
    ) -> None:
        self._pool = pool
        self._store = store
        self._files = files
        self._rest = rest
        self._checkpoint = checkpoint

    async def close(self, day: date, shard: int) -> int:
        """Put a day of a shard into the archive; returns its rows.

        Raises BlobsAway; DamagedError when a file is not what was written; Superseded.
        """
        await self.clear(day, shard)
        with scratch.folder() as folder:
            local = await self._copied(day, shard, folder)
            self._checkpoint("archive copied")
            written = [await self.store(day, shard, file) for file in local]
        self._checkpoint("archive written")
        rows, last_seq = sum(file.rows for file in written), max((file.last_seq for file in written), default=None)
        async with self._pool.acquire() as connection:
            await listing.keep(connection, day, shard, written, rows, last_seq)
        self._checkpoint("archive kept")
        return rows

    async def clear(self, day: date, shard: int) -> int:
        """Delete what does not count of a day; returns how many files that were."""
        names = await listing.unneeded(self._pool, day, shard)
        for name in names:
            await self._store.delete(name)
        await listing.forget(self._pool, names)
        return len(names)

    async def _copied(self, day: date, shard: int, folder: Path) -> list[LocalFile]:
        """The day in files on this machine. Raises DamagedError unless they hold what Postgres counts."""
        rows, local = Day(self._pool, day, shard, self._rest), LocalFiles(folder, self._rest)
        sorting, sums = Sorting(folder / "rows.arrow", await rows.sample()), dict[UUID | None, Sums]()
        async for piece in rows.pieces():
            sorting.take(piece.rows)
            for project_id, of_piece in piece.sums.items():
                sums.setdefault(project_id, Sums()).merge(of_piece)
        for table in sorting.ordered():
            await local.take(table)
        await local.end()
        found = dict[UUID | None, Sums]()
        for file in local.files:
            found.setdefault(file.project_id, Sums()).merge(file.sums)
        if {one: of.all() for one, of in found.items()} != {one: of.all() for one, of in sums.items()}:
            raise DamagedError(f"{day} of shard {shard}: {found}, and Postgres counts {sums}")
        return local.files

    async def store(self, day: date, shard: int, file: LocalFile) -> Written:
        """Announce and store a file, and compare what is stored. Raises BlobsAway, DamagedError."""
        name = layout.name_of(file.project_id, day, shard, secrets.token_hex(8))
        announced = await listing.announce(self._pool, day, shard, file.project_id, name)
        outgoing, size = _Outgoing(name, file.path), file.path.stat().st_size
        await self._store.put(outgoing)
        await self._compare_bytes(name, size, outgoing.checksum)
        await self._compare(name, size, file)
        sums, seqs = file.sums, (file.sums.first_seq, file.sums.last_seq)
        times, devices = (file.first_at, file.last_at), (file.first_device, file.last_device)
        return Written(announced, sums.rows, size, *times, *seqs, file.device_ids, *devices)

    async def _compare_bytes(self, name: str, size: int, checksum: str) -> None:
        """Raises DamagedError unless the store has the bytes that it was given."""
        found, reading = hashlib.sha256(), await self._store.read(name, 0, size)
        try:
            async for piece in reading:
                found.update(piece)
        finally:
            await reading.aclose()
        if found.hexdigest() != checksum:
            raise DamagedError(f"{name}: its bytes are not those that were stored")

    async def _compare(self, name: str, size: int, file: LocalFile) -> None:
        """Raises DamagedError unless the rows in a stored file are what came from Postgres."""
        stored, found, digest = await self._files.open(name, size), Sums(), hashlib.blake2b(digest_size=16)
        for group in range(stored.groups):
            table: Any = await self._files.group(stored, group, layout.STORED)
            found.add(table)
            digest.update(layout.digest(table))
            await self._rest()
        if found.all() != file.sums.all() or digest.hexdigest() != file.digest:
            raise DamagedError(f"{name}: {found} {digest.hexdigest()}, not {file.sums} {file.digest}")


class _Outgoing:
    """A file on this machine, on its way to the store."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._sha = hashlib.sha256()

    @property
    def checksum(self) -> str:
        """Of the bytes, once all of them went out."""
        return self._sha.hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._sha = hashlib.sha256()
        with self._path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                self._sha.update(piece)
                yield piece
