"""Log files of `fleetgate up`: bounded, also while it runs for months.

A process writes into its file itself, so that nothing of it waits for the supervisor, and goes on with the same file
for as long as it lives. A file that has grown too long is therefore copied beside itself and emptied; whoever writes to
it appends, and so begins anew. A line that is written in between is lost.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from gateway.cli.stopping import stopped

BYTES_MAX = 16 * 1024 * 1024
"""Of one file; the one before it is kept beside it."""
CHECK_S = 10.0


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
    """Begin a file that is too long anew. Raises OSError."""
    if path.exists() and path.stat().st_size > bytes_max:
        shutil.copyfile(path, kept(path))
        os.truncate(path, 0)
