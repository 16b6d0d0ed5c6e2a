"""Bytes in a folder: whole under their name, or not there."""

import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from schemas.blobs.folder import FolderStore
from schemas.blobs.store import BlobsAway, BlobsFull, NoBlobError


class Given:
    """Bytes for a store; after them comes `error`, if there is one."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces, self.error = pieces, error
        self.name = hashlib.sha256(b"".join(pieces)).hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    made = FolderStore(tmp_path / "deep" / "files")
    yield made
    await made.close()


async def content(store: FolderStore, name: str, start: int, end: int) -> bytes:
    reading = await store.read(name, start, end)
    try:
        return b"".join([piece async for piece in reading])
    finally:
        await reading.aclose()


async def listed(store: FolderStore) -> dict[str, int]:
    return {one.name: one.size async for one in store.list()}


async def test_what_is_put_can_be_read_by_ranges_until_it_is_deleted(store: FolderStore) -> None:
    """Twice the same is there once; deleting what is not there is fine."""
    given = Given(b"abc", os.urandom(600_000))
    whole = b"".join(given.pieces)
    for _ in range(2):
        await store.put(given)
    assert await listed(store) == {given.name: len(whole)}
    assert await store.size(given.name) == len(whole)
    for start, end in ((0, len(whole)), (1, 3), (300_000, 600_003), (5, 5)):
        assert await content(store, given.name, start, end) == whole[start:end]
    for _ in range(2):
        await store.delete(given.name)
    assert await store.size(given.name) is None
    with pytest.raises(NoBlobError):
        await store.read(given.name, 0, 1)
    assert await listed(store) == {}


async def test_who_reads_what_is_deleted_reads_to_the_end(store: FolderStore) -> None:
    """A download that began goes on."""
    given = Given(os.urandom(600_000))
    await store.put(given)
    reading = await store.read(given.name, 0, 600_000)
    pieces = aiter(reading)
    first = await anext(pieces)
    await store.delete(given.name)
    assert first + b"".join([piece async for piece in pieces]) == given.pieces[0]
    await reading.aclose()


async def test_what_does_not_come_whole_leaves_nothing(store: FolderStore) -> None:
    """Whoever sends it fails, or says that it is not what it should be."""
    with pytest.raises(ValueError, match="cut off"):
        await store.put(Given(b"abc", error=ValueError("cut off")))
    assert await listed(store) == {}


@pytest.mark.parametrize(
    ("call", "code", "raised"),
    [
        ("open", errno.ENOSPC, BlobsFull),
        ("write", errno.ENOSPC, BlobsFull),
        ("write", errno.EDQUOT, BlobsFull),
        ("write", errno.EFBIG, BlobsFull),
        ("fsync", errno.ENOSPC, BlobsFull),
        ("fsync", errno.EIO, BlobsAway),
    ],
)
async def test_a_full_or_failing_disk_is_a_store_that_is_away(
    store: FolderStore, call: str, code: int, raised: type[BlobsAway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves nothing behind either; afterwards the same bytes are put as if nothing had been."""

    def fail(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    given = Given(b"abc")
    with monkeypatch.context() as failing:
        failing.setattr(os, call, fail)
        with pytest.raises(BlobsAway, match=os.strerror(code)) as away:
            await store.put(given)
        assert away.type is raised
    assert await listed(store) == {}
    await store.put(given)
    assert await listed(store) == {given.name: 3}


async def test_bytes_are_on_disk_before_they_have_their_name(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temporary file, fsync, rename, fsync of the folder: a power cut leaves all of it or nothing."""
    folder, given, steps = tmp_path / "deep" / "files", Given(b"abc"), []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        steps.append((os.path.samestat(os.fstat(descriptor), folder.stat()), (folder / given.name).exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    await store.put(given)
    assert steps == [(False, False), (True, True)]


async def test_where_the_page_cache_cannot_be_asked_threads_read(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not in memory, or lies on a file system that cannot tell."""
    given = Given(os.urandom(600_000))
    await store.put(given)

    def would_wait(*_: Any) -> int:
        raise OSError(errno.EAGAIN, "would wait")

    monkeypatch.setattr(os, "preadv", would_wait)
    assert await content(store, given.name, 0, 600_000) == given.pieces[0]


async def test_what_a_crash_left_goes_with_the_next_start_and_what_is_being_written_stays(
    store: FolderStore, tmp_path: Path
) -> None:
    """Two processes share the folder: one starts while the other takes an upload."""
    left = tmp_path / "deep" / "files" / "incoming" / "left"
    seen: list[list[str]] = []

    class Slow(Given):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a"
            left.write_bytes(b"half")
            FolderStore(tmp_path / "deep" / "files").clear_up()
            seen.append(list(await listed(store)))
            yield b"b"

    given = Slow(b"ab")
    await store.put(given)
    assert [[name.partition("/")[0] for name in names] for names in seen] == [["incoming"]]
    assert not left.exists()
    assert await listed(store) == {given.name: 2}


async def test_a_folder_that_cannot_be_used_is_a_store_that_is_away(tmp_path: Path) -> None:
    """A process starts all the same: telemetry does not need files."""
    (tmp_path / "file").write_text("")
    store = FolderStore(tmp_path / "file" / "files")
    store.clear_up()
    with pytest.raises(BlobsAway):
        await store.put(Given(b"abc"))
    with pytest.raises(BlobsAway):
        await store.size("ab")
    await store.close()
