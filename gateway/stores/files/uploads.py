"""Bytes on their way into the file store: counted and hashed as they come, named when they are there.

    request ──pieces──▶ `Upload` (counts, hashes) ──▶ store ──all there──▶ lock of the name ──▶ row ──▶ commit

Nothing is kept of an upload that is cut off, too long, or not what its sender said: the store throws away what it has
of it, and no row names it.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TypeVar

from gateway.refusals import Conflict, DoesNotFit, TooLarge
from gateway.stores.files.catalog import File
from schemas import blob_references
from schemas.blobs.store import PIECE_BYTES, BlobStore
from schemas.postgres import Connection, Pool

BLANK = "Data can't be blank"
_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "md5": "md5"}
FOR_UPDATERS = frozenset({"sha", "md5"})
"""Updaters compare these, of files; who needs to trust bytes has the signature."""

T = TypeVar("T")


class Upload:
    """The bytes of a request, as a store takes them. Raises TooLarge, or DoesNotFit, where they end."""

    def __init__(
        self,
        body: AsyncIterable[bytes],
        digests: Mapping[str, bytes],
        bytes_max: int,
        named: Callable[[str], Awaitable[None]],
        also: frozenset[str] = frozenset(),
    ) -> None:
        """`named` is called with the name of the bytes before the store keeps them; `also` are further digests."""
        self._body = body
        self._digests = digests
        self._bytes_max = bytes_max
        self._named = named
        self._hashes = {
            name: hashlib.new(_ALGORITHMS[name], usedforsecurity=name not in ("sha", "md5"))
            for name in {"sha-256", *also, *digests}
        }
        self.size = 0

    def __repr__(self) -> str:
        return f"<Upload size={self.size}>"

    @property
    def name(self) -> str:
        """The SHA-256 of what came so far."""
        return self.digest("sha-256")

    def digest(self, algorithm: str) -> str:
        """The digest of what came so far, in hex: `sha-256`, or one of those that were asked for."""
        return self._hashes[algorithm].hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        piece = bytearray()
        async for chunk in self._body:
            piece += chunk
            if self.size + len(piece) > self._bytes_max:
                raise TooLarge(too_large(self._bytes_max))
            if len(piece) >= PIECE_BYTES:
                yield await self._taken(bytes(piece))
                piece.clear()
        if piece:
            yield await self._taken(bytes(piece))
        if not self.size:
            raise DoesNotFit(BLANK)
        for algorithm, digest in self._digests.items():
            if self._hashes[algorithm].digest() != digest:
                raise DoesNotFit(f"Content-Digest does not fit: the {algorithm} of what came is another")
        await self._named(self.name)

    async def _taken(self, piece: bytes) -> bytes:
        await asyncio.to_thread(self._hash, piece)
        self.size += len(piece)
        return piece

    def _hash(self, piece: bytes) -> None:
        for hash_ in self._hashes.values():
            hash_.update(piece)


def too_large(bytes_max: int) -> str:
    """What is said of bytes that are too many."""
    return f"Body is larger than {bytes_max} bytes"


async def store(
    pool: Pool,
    blobs: BlobStore,
    body: AsyncIterable[bytes],
    digests: Mapping[str, bytes],
    bytes_max: int,
    record: Callable[[Connection, Upload], Awaitable[T]],
    also: frozenset[str] = frozenset(),
) -> T:
    """Put bytes into the store and have `record` write the row that names them, in a transaction of its own.

    `record` may ask the upload for the digests in `also`. Raises TooLarge, DoesNotFit, and what `record` raises; then
    the bytes are nobody's, and go.
    """
    async with AsyncExitStack() as stack:
        connections: list[Connection] = []

        async def named(name: str) -> None:
            connection = await stack.enter_async_context(pool.acquire())
            await stack.enter_async_context(connection.transaction())
            await blob_references.lock(connection, name)
            connections.append(connection)

        upload = Upload(body, digests, bytes_max, named, also)
        await blobs.put(upload)
        return await record(connections[0], upload)


async def fill(connection: Connection, file: File, upload: Upload) -> None:
    """Give a file its bytes, with the digests `FOR_UPDATERS`; the same ones again change nothing.

    Raises Conflict when it has others already.
    """
    filled = await connection.fetchval(
        """UPDATE files SET checksum = $2, size = $3, sha1 = $4, md5 = $5
            WHERE id = $1 AND (checksum = $2 OR checksum IS NULL AND status = 'draft') RETURNING true""",
        file.id,
        upload.name,
        upload.size,
        upload.digest("sha"),
        upload.digest("md5"),
    )
    if not filled:
        raise Conflict("File has its content already: other bytes are another file")
