"""Log files of `fleetgate up`: bounded, also while it runs for months.

A process writes into its file itself, so that nothing of it waits for the supervisor, and goes on with the same file
for as long as it lives; whoever writes to it appends. From a file that has grown too long its beginning is therefore
copied beside it and cut off, while what was written meanwhile stays (Linux: FALLOC_FL_COLLAPSE_RANGE of ext4 and XFS).
Such a cut is made between two blocks, so a line may begin in the one file and end in the other. Where a file system
knows no cuts, the file is copied whole and emptied, and a line that is written in that very moment is lost.
"""

import asyncio
import ctypes
import errno
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from gateway.cli.stopping import stopped

BYTES_MAX = 16 * 1024 * 1024
"""Of one file; the one before it is kept beside it."""
CHECK_S = 10.0
_COLLAPSE_RANGE = 0x08
_COPIED_AT_ONCE = 1024 * 1024


def begun(home: Path, name: str) -> Path:
    """The log file of a child; the one of the previous start is kept beside it."""
    folder = home / "log"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}.log"
    if path.exists():
        path.replace(kept(path))
    return path


def kept(path: Path) -> Path:
    """Where what a log file held before is kept."""
    return path.with_suffix(".log.1")


async def keep_short(files: Callable[[], Collection[Path]], stop: asyncio.Event) -> None:
    """Look at the files again and again, until `stop`."""
    while not await stopped(stop, CHECK_S):
        for path in files():
            try:
                shorten(path)
            except OSError as error:
                print(f"cannot shorten {path}: {error.strerror}", file=sys.stderr, flush=True)


def shorten(path: Path, bytes_max: int = BYTES_MAX) -> None:
    """Keep the beginning of a file that is too long beside it, and begin it behind that. Raises OSError."""
    if not path.exists() or path.stat().st_size <= bytes_max:
        return
    with path.open("r+b", buffering=0) as log, kept(path).open("wb") as copy:
        block = os.fstatvfs(log.fileno()).f_bsize
        # A file must not be cut off whole: a block of it stays, or a part of one.
        cut = (os.fstat(log.fileno()).st_size - 1) // block * block
        while copy.tell() < cut:
            copy.write(log.read(min(_COPIED_AT_ONCE, cut - copy.tell())))
        copy.flush()
        if cut and _cut(log.fileno(), cut):
            return
        while part := log.read(_COPIED_AT_ONCE):
            copy.write(part)
        os.ftruncate(log.fileno(), 0)


def _cut(file: int, length: int) -> bool:
    """Cut so much off the beginning of a file, whoever appends to it; whether the file system can."""
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except AttributeError:
        return False
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if call(file, _COLLAPSE_RANGE, 0, length) == 0:
        return True
    if ctypes.get_errno() in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
