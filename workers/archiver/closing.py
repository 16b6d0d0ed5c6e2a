"""Writes one closed day of one shard to the archive: copied out, stored, read back, compared, and only then kept.

    Postgres ──COPY, one snapshot──▶ files here ──▶ announced ──▶ store ══ bytes, rows, sums ══▶ kept
                                                        └── a crash leaves names, which the next clears away ──┘

Nothing counts before all of it is there and equal, and then all of it at once (see `schemas.archive.listing`). Who lost
the day to another worker finds its announcements gone, and its files do not count.
"""

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from schemas.archive import layout, listing
from schemas.archive.files import Files
from schemas.archive.listing import DamagedError, Written
from schemas.blobs.store import PIECE_BYTES, BlobStore
from schemas.postgres import Pool
from workers import partitions
from workers.archiver import scratch
from workers.archiver.writing import SUMS, LocalFile, LocalFiles, Sums
from workers.checkpoints import Checkpoint

COPY_S = 3600.0
"""For one shard's day, which is sorted for it."""


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
            local, sums = await self._copied(day, shard, folder)
            self._checkpoint("archive copied")
            written = [await self.store(day, shard, file, sums[file.project_id]) for file in local]
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

    async def _copied(self, day: date, shard: int, folder: Path) -> tuple[list[LocalFile], dict[UUID | None, Sums]]:
        begin = partitions.begin_of(day)
        arguments = shard, begin, begin + timedelta(days=1)
        local = LocalFiles(folder, self._rest)
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            counted = await connection.fetch(SUMS, *arguments, timeout=COPY_S)
            await connection.copy_from_query(
                layout.ROWS, *arguments, output=local.take, format="csv", encoding="utf8", timeout=COPY_S
            )
        await local.end()
        sums = {row["project_id"]: _sums(row) for row in counted}
        if sums.keys() != {file.project_id for file in local.files}:
            raise DamagedError(f"{day} of shard {shard}: not the projects that Postgres counts")
        return local.files, sums

    async def store(self, day: date, shard: int, file: LocalFile, sums: Sums) -> Written:
        """Announce and store a file, and compare what is stored. Raises BlobsAway, DamagedError."""
        name = layout.name_of(file.project_id, day, shard, secrets.token_hex(8))
        announced = await listing.announce(self._pool, day, shard, file.project_id, name)
        outgoing, size = _Outgoing(name, file.path), file.path.stat().st_size
        await self._store.put(outgoing)
        await self._compare_bytes(name, size, outgoing.checksum)
        await self._compare(name, size, file, sums)
        return Written(
            announced, sums.rows, size, file.first_at, file.last_at, sums.first_seq, sums.last_seq, file.device_ids
        )

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

    async def _compare(self, name: str, size: int, file: LocalFile, sums: Sums) -> None:
        """Raises DamagedError unless the rows in a file are what Postgres counts, and what came from there."""
        stored, found, digest = await self._files.open(name, size), Sums(), hashlib.blake2b(digest_size=16)
        for group in range(stored.groups):
            table: Any = await self._files.group(stored, group, layout.STORED)
            found.add(table)
            digest.update(layout.digest(table))
            await self._rest()
        if found.all() != sums.all() or digest.hexdigest() != file.digest:
            raise DamagedError(f"{name}: {found} {digest.hexdigest()}, not {sums} {file.digest}")


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


def _sums(row: Any) -> Sums:
    sums = Sums()
    for name in Sums.__slots__:
        setattr(sums, name, int(row[name]))
    return sums
