"""The default store of bytes: a folder, on one machine or shared by several.

    put: incoming/TOKEN ──written, fsync──▶ rename to its name ──▶ fsync of the folder

A file has its last name only when all of it is on disk. Who writes holds a lock on the temporary file, which ends with
its process: what a crash left is known by that, and removed at the next start of any process that opens the folder.

The disk is never waited for in the event loop: what is in the page cache is read at once (`RWF_NOWAIT`, on Linux),
everything else by a few threads.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from schemas import logs
from schemas.blobs.store import INCOMING, PIECE_BYTES, BlobsAway, BlobsFull, Incoming, Listed, NoBlobError

log = logging.getLogger(__name__)

THREADS = 8
LISTED_AT_ONCE = 1_000
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_CANNOT_TELL = (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What the kernel says when it would have to wait for the disk, or cannot tell for this file system."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

T = TypeVar("T")


class FolderStore:
    """A store in a folder, which is made when something is put there first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = ThreadPoolExecutor(THREADS, "folder store")
        self._scratch = memoryview(bytearray(PIECE_BYTES))
        """What is in memory is read here, in the event loop, and nowhere else."""

    def __repr__(self) -> str:
        return f"<FolderStore {self._folder}>"

    def clear_up(self) -> None:
        """Remove what was being put by processes that are gone. The folder may not be there, or not be usable."""
        try:
            for left in (self._folder / INCOMING).iterdir():
                _remove_abandoned(left)
        except FileNotFoundError:
            pass
        except OSError as error:
            logs.event(log, logging.WARNING, "file_store_away", cause=str(error))

    async def put(self, incoming: Incoming) -> None:
        """See BlobStore."""
        path, descriptor = await self._in_thread(self._begin)
        try:
            async for piece in incoming:
                await self._in_thread(_write, descriptor, piece)
            await self._in_thread(self._keep, path, descriptor, incoming.name)
        except NoBlobError:  # somebody cleared the folder away
            raise BlobsAway(f"{path} is gone") from None
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    async def read(self, name: str, start: int, end: int) -> "FileReading":
        """See BlobStore."""
        descriptor = await self._in_thread(self._open, name)
        return FileReading(descriptor, start, end, self._in_thread, self._scratch)

    async def size(self, name: str) -> int | None:
        """See BlobStore."""
        try:
            found = await self._in_thread(os.stat, self._folder / name)
        except NoBlobError:
            return None
        return found.st_size

    async def delete(self, name: str) -> None:
        """See BlobStore. Who reads it reads on: the bytes go with the last who has the file open."""
        with contextlib.suppress(NoBlobError):
            await self._in_thread(self._remove, self._folder / name)

    async def list(self) -> AsyncIterator[Listed]:
        """See BlobStore."""
        found = self._walk()
        while some := await self._in_thread(_some, found):
            for one in some:
                yield one

    async def close(self) -> None:
        """See BlobStore."""
        self._threads.shutdown(wait=True)

    async def _in_thread(self, act: Callable[..., T], *arguments: object) -> T:
        """Do it in a thread, and wait for its end also when cancelled: it works on what its caller is about to close.

        Raises NoBlobError, BlobsFull, or BlobsAway for every other error of the system.
        """
        doing = asyncio.get_running_loop().run_in_executor(self._threads, act, *arguments)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            while not doing.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([doing])
            raise
        except FileNotFoundError as error:
            raise NoBlobError(str(error)) from None
        except OSError as error:
            raise (BlobsFull if error.errno in _NO_ROOM else BlobsAway)(str(error)) from error

    def _begin(self) -> tuple[Path, int]:
        incoming = self._folder / INCOMING
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = incoming / secrets.token_hex(16)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return path, descriptor

    def _keep(self, path: Path, descriptor: int, name: str) -> None:
        target = self._folder / name
        changed = {target.parent, *(one.parent for one in target.parents if not one.exists())}
        target.parent.mkdir(parents=True, exist_ok=True)
        os.fsync(descriptor)
        path.rename(target)
        for folder in changed:
            _sync(folder)

    def _remove(self, path: Path) -> None:
        """And folders that are empty then. Who was about to put something there tries again."""
        path.unlink()
        with contextlib.suppress(OSError):
            for folder in path.parents:
                if folder == self._folder:
                    break
                folder.rmdir()

    def _open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDONLY)

    def _walk(self) -> Iterator[Listed]:
        for folder, prefix in ((self._folder, ""), (self._folder / INCOMING, INCOMING)):
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                        if entry.is_file(follow_symlinks=False):
                            found = entry.stat(follow_symlinks=False)
                            changed_at = datetime.fromtimestamp(found.st_mtime, UTC)
                            yield Listed(prefix + entry.name, found.st_size, changed_at)


class FileReading:
    """A range of an open file."""

    def __init__(
        self, descriptor: int, start: int, end: int, in_thread: Callable[..., object], scratch: memoryview
    ) -> None:
        self._descriptor = descriptor
        self._next = start
        self._end = end
        self._in_thread = in_thread
        self._scratch = scratch

    def __repr__(self) -> str:
        return f"<FileReading {self._next}-{self._end}>"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._next < self._end:
            length = min(PIECE_BYTES, self._end - self._next)
            piece = self._at_hand(length)
            if piece is None:
                piece = await self._in_thread(os.pread, self._descriptor, length, self._next)  # type: ignore[misc]
            if not piece:
                raise BlobsAway("the file is shorter than it was")
            self._next += len(piece)
            yield piece

    async def aclose(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _at_hand(self, length: int) -> bytes | None:
        """The next bytes if they are in memory."""
        if not _NOWAIT:
            return None
        try:
            count = os.preadv(self._descriptor, [self._scratch[:length]], self._next, _NOWAIT)
        except OSError as error:
            if error.errno not in _CANNOT_TELL:
                raise BlobsAway(str(error)) from error
            return None
        return bytes(self._scratch[:count]) if count else None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def _some(found: Iterator[Listed]) -> list[Listed]:
    return [one for one, _ in zip(found, range(LISTED_AT_ONCE), strict=False)]


def _remove_abandoned(path: Path) -> None:
    """Remove a temporary file unless somebody writes it."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)
