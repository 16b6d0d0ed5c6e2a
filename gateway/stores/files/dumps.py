"""Dumps: what devices send of their insides, in parts that lie in the file store.

    POST ──▶ part 1        PUT ──▶ part 2, 3, …; a small one is put together with a small last part

A dump is for whoever owned the device when it was sent. Appending locks the dump's row, so parts follow one another in
the order in which they were complete. Of the dumps of a device the newest are kept.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound, TooLarge
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.files.uploads import Upload
from schemas import blob_references, ids
from schemas.blobs.store import PIECE_BYTES, BlobsAway, BlobStore, NoBlobError, Reading
from schemas.postgres import Connection, Executor

UNKNOWN = "Dump not found"
SMALL_BYTES = PIECE_BYTES
"""What is appended is put together with the last part up to this size: devices append line by line."""


class Dump(Struct):
    """A dump of a device, without its bytes."""

    id: UUID
    device_id: UUID
    file_name: str
    media_type: str
    size: int
    created_at: datetime
    appended_at: datetime | None


class Part(Struct, frozen=True):
    """A part of a dump, as it lies in the store."""

    checksum: str
    size: int


_DUMP = "id, device_id, file_name, media_type, size, created_at, appended_at"


async def add(
    connection: Connection, device: DeviceCaller, file_name: str, media_type: str, upload: Upload, dumps_max: int
) -> UUID:
    """A new dump, in the transaction that holds the name of its bytes; the oldest beyond `dumps_max` go."""
    dump_id = ids.new_id()
    await connection.execute(
        """INSERT INTO dumps (id, device_id, organization_id, file_name, media_type, size)
           VALUES ($1, $2, $3, $4, $5, $6)""",
        dump_id,
        device.id,
        device.organization_id,
        file_name,
        media_type,
        upload.size,
    )
    await connection.execute(
        "INSERT INTO dump_parts (dump_id, number, checksum, size) VALUES ($1, 1, $2, $3)",
        dump_id,
        upload.name,
        upload.size,
    )
    await connection.execute(
        "DELETE FROM dumps WHERE id IN (SELECT id FROM dumps WHERE device_id = $1 ORDER BY id DESC OFFSET $2)",
        device.id,
        dumps_max,
    )
    return dump_id


async def size(connection: Executor, device: DeviceCaller, dump_id: UUID) -> int:
    """How long a dump of the device is. Raises NotFound, also for what it told an earlier owner."""
    found: int | None = await connection.fetchval(
        "SELECT size FROM dumps WHERE id = $1 AND device_id = $2 AND organization_id IS NOT DISTINCT FROM $3",
        dump_id,
        device.id,
        device.organization_id,
    )
    if found is None:
        raise NotFound(UNKNOWN)
    return found


async def lock(connection: Connection, device: DeviceCaller, dump_id: UUID) -> int:
    """As `size`, and nobody else appends until the transaction ends."""
    await connection.execute("SELECT FROM dumps WHERE id = $1 AND device_id = $2 FOR NO KEY UPDATE", dump_id, device.id)
    return await size(connection, device, dump_id)


async def append(connection: Connection, device: DeviceCaller, dump_id: UUID, upload: Upload, bytes_max: int) -> int:
    """Append a part, in the transaction that holds the name of its bytes; the new length. Raises TooLarge, NotFound."""
    length = _length(await lock(connection, device, dump_id) + upload.size, bytes_max)
    await connection.execute(
        """INSERT INTO dump_parts (dump_id, number, checksum, size)
           SELECT $1, max(number) + 1, $2, $3 FROM dump_parts WHERE dump_id = $1""",
        dump_id,
        upload.name,
        upload.size,
    )
    return await _grown(connection, dump_id, length)


async def append_small(
    connection: Connection, blobs: BlobStore, device: DeviceCaller, dump_id: UUID, data: bytes, bytes_max: int
) -> int:
    """As `append`, for bytes at hand, put together with a small last part; in a transaction."""
    length = _length(await lock(connection, device, dump_id) + len(data), bytes_max)
    last = await connection.fetchrow(
        "SELECT number, checksum, size FROM dump_parts WHERE dump_id = $1 ORDER BY number DESC LIMIT 1", dump_id
    )
    assert last is not None
    number = last["number"] + 1
    if last["size"] + len(data) <= SMALL_BYTES:
        number = last["number"]
        async with aclosing(await _open(blobs, last["checksum"], 0, last["size"])) as reading:
            data = b"".join([piece async for piece in reading]) + data
    whole = _Whole(data)
    await blob_references.lock(connection, whole.name)
    await blobs.put(whole)
    await connection.execute(
        """INSERT INTO dump_parts (dump_id, number, checksum, size) VALUES ($1, $2, $3, $4)
           ON CONFLICT (dump_id, number) DO UPDATE SET checksum = excluded.checksum, size = excluded.size""",
        dump_id,
        number,
        whole.name,
        len(data),
    )
    return await _grown(connection, dump_id, length)


def _length(length: int, bytes_max: int) -> int:
    if length > bytes_max:
        raise TooLarge(f"Dump would be larger than {bytes_max} bytes")
    return length


async def _grown(connection: Connection, dump_id: UUID, length: int) -> int:
    await connection.execute("UPDATE dumps SET size = $2, appended_at = now() WHERE id = $1", dump_id, length)
    return length


async def page(
    connection: Executor, organization_id: UUID, device_id: UUID, *, before: UUID | None, offset: int, limit: int
) -> list[Dump]:
    """What a device sent while the organization owned it, newest first."""
    rows = await connection.fetch(
        f"""SELECT {_DUMP} FROM dumps WHERE device_id = $1 AND organization_id = $2 AND ($3::uuid IS NULL OR id < $3)
             ORDER BY id DESC OFFSET $4 LIMIT $5""",
        device_id,
        organization_id,
        before,
        offset,
        limit,
    )
    return [Dump(**row) for row in rows]


async def read(connection: Executor, organization_id: UUID, device_id: UUID, dump_id: UUID) -> tuple[Dump, list[Part]]:
    """A dump with its parts in order. Raises NotFound."""
    row = await connection.fetchrow(
        f"""SELECT {_DUMP}, (SELECT array_agg(p.checksum || ' ' || p.size ORDER BY p.number)
                               FROM dump_parts p WHERE p.dump_id = d.id) AS parts
              FROM dumps d WHERE device_id = $1 AND organization_id = $2 AND id = $3""",
        device_id,
        organization_id,
        dump_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    members = dict(row)
    parts = [text.split() for text in members.pop("parts")]
    return Dump(**members), [Part(checksum, int(length)) for checksum, length in parts]


async def delete(connection: Executor, organization_id: UUID, device_id: UUID, dump_id: UUID) -> None:
    """Raises NotFound."""
    if not await connection.fetchval(
        "DELETE FROM dumps WHERE device_id = $1 AND organization_id = $2 AND id = $3 RETURNING true",
        device_id,
        organization_id,
        dump_id,
    ):
        raise NotFound(UNKNOWN)


def etag(parts: Sequence[Part]) -> str:
    """A strong validator of a dump as it is now: it may still grow."""
    return hashlib.sha256("".join(part.checksum for part in parts).encode()).hexdigest()


class PartsReading:
    """A range of a dump, read part after part."""

    def __init__(self, blobs: BlobStore, parts: Sequence[Part], start: int, end: int) -> None:
        self._blobs = blobs
        self._parts = parts
        self._start = start
        self._end = end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        begins = 0
        for part in self._parts:
            first, last = max(self._start - begins, 0), min(self._end - begins, part.size)
            begins += part.size
            if first < last:
                async with aclosing(await _open(self._blobs, part.checksum, first, last)) as reading:
                    async for piece in reading:
                        yield piece

    async def aclose(self) -> None:
        """Nothing is open between parts."""


async def _open(blobs: BlobStore, name: str, start: int, end: int) -> Reading:
    try:
        return await blobs.read(name, start, end)
    except NoBlobError as error:
        raise BlobsAway(str(error)) from None


class _Whole:
    """Bytes at hand, as a store takes them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.name = hashlib.sha256(data).hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data
