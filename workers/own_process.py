"""Runs a role of a worker in a process of its own, so that what it reads from strangers cannot hurt the others.

    worker ──starts, and starts again──▶ worker with that role alone
           ◀─ what ends the one, however it dies, closes this pipe, and ends the other

The importer decodes what vendors send: a list may be slow to take apart, or larger than the machine. In a process of
its own that costs imports at most. The flusher beside it, which stores what devices were told is accepted, shares
neither its memory nor its event loop.
"""

import asyncio
import contextlib
import logging
import os
import sys
import time

from schemas import logs
from schemas.settings import PREFIX

log = logging.getLogger(__name__)

ALONE = "importer"
STOP_TIMEOUT_S = 20.0
RESTART_S = (0.1, 5.0)
LIVED_S = 10.0
"""A process that lived so long died of something new."""


def split(roles: str) -> tuple[str, bool]:
    """The roles that stay in this process, and whether one is to have its own; a role that is alone stays."""
    several = roles.split(",")
    if ALONE not in several or len(set(several)) == 1:
        return roles, False
    return ",".join(role for role in several if role != ALONE), True


async def keep(stop: asyncio.Event) -> None:
    """Keep the role running until `stop` is set, then let it end."""
    pause_s = RESTART_S[0]
    while not stop.is_set():
        began = time.monotonic()
        code = await _run(stop)
        if stop.is_set():
            return
        pause_s = RESTART_S[0] if time.monotonic() - began > LIVED_S else min(2 * pause_s, RESTART_S[1])
        logs.event(log, logging.ERROR, "role_ended", role=ALONE, code=code, again_in_s=pause_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_s)


async def _run(stop: asyncio.Event) -> int:
    """One process; its exit code."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "workers", "--until-parent-ends"),
        stdin=asyncio.subprocess.PIPE,
        env={**os.environ, f"{PREFIX}WORKER_ROLES": ALONE},
    )
    ended, stopping = asyncio.create_task(child.wait()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        assert child.stdin is not None
        child.stdin.close()
        await asyncio.wait({ended}, timeout=STOP_TIMEOUT_S)
    finally:
        stopping.cancel()
        if not ended.done():
            child.kill()
    return await ended


async def parent_ended() -> None:
    """Wait until the process that started this one has ended, or wants it to."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
