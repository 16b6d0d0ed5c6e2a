"""What a child process does before it becomes the program that it was started for.

PostgreSQL refuses to run as root. Started by root it therefore runs as user ``nobody`` (or the owner of an existing
data folder) who keeps just one privilege, to pass file permissions, so that neither the permissions of the path to
the checkout nor its owner have to be changed.

Programs that ask with access(2) whether they may (initdb looks so for postgres) would get a no below a folder of mode
700: the kernel answers that question without the capabilities of a user other than root. SECBIT_NO_SETUID_FIXUP turns
that exception off (capabilities(7)), and with it the loss of all capabilities in setuid(2).
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 28, 47, 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def unprivileged(folder: Path) -> int:
    """The user that a server on this folder runs as when root starts it."""
    owner = folder.stat().st_uid if folder.exists() else 0
    return owner or pwd.getpwnam("nobody").pw_uid


def becoming(user: int | None) -> Callable[[], None]:
    """What drops to `user`, where one is given, and then lets the child die with its parent."""
    libc = ctypes.CDLL(None)
    die_with_parent = dying_with_parent()

    def become() -> None:
        if user is not None and sys.platform == "linux":
            libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)  # where a container forbids the next: all but access(2) works then
            libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
            os.setgroups([])
            os.setgid(pwd.getpwuid(user).pw_gid)
            os.setuid(user)
            mask = 1 << _CAP_DAC_OVERRIDE
            header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
            capabilities = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
            libc.capset(ctypes.byref(header), ctypes.byref(capabilities))
            libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
        die_with_parent()

    return become


def dying_with_parent() -> Callable[[], None]:
    """What lets the child get SIGINT when its parent dies, however that dies (Linux only)."""
    libc = ctypes.CDLL(None)  # before the fork: to open it takes a lock that another thread may hold just then

    def die_with_parent() -> None:
        if sys.platform == "linux":
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)

    return die_with_parent
