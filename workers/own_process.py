"""Runs a role of a worker in a process of its own, so that what it does cannot hurt the others.

    worker ──starts, and starts again──▶ worker with that role alone
           ◀─ what ends the one, however it dies, closes this pipe, and ends the other

The importer decodes what vendors send: a list may be slow to take apart, or larger than the machine. In a process of
its own that costs imports at most. The flusher beside it, which stores what devices were told is accepted, shares
neither its memory nor its event loop. The archiver packs millions of events, at a low priority.
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

ALONE = ("importer", "archiver")
STOP_TIMEOUT_S = 20.0
RESTART_S = (0.1, 5.0)
LIVED_S = 10.0
"""A process that lived so long died of something new."""


def split(roles: str) -> tuple[str, list[str]]:
    """The roles that stay in this process, and those that are to have their own; a role that is alone stays."""
    several = list(dict.fromkeys(roles.split(",")))
    stay = [role for role in several if role not in ALONE] or several[:1]
    return ",".join(stay), [role for role in several if role not in stay]


async def keep(role: str, stop: asyncio.Event) -> None:
    """Keep a role running until `stop` is set, then let it end."""
    pause_s = RESTART_S[0]
    while not stop.is_set():
        began = time.monotonic()
        code = await _run(role, stop)
        if stop.is_set():
            return
        pause_s = RESTART_S[0] if time.monotonic() - began > LIVED_S else min(2 * pause_s, RESTART_S[1])
        logs.event(log, logging.ERROR, "role_ended", role=role, code=code, again_in_s=pause_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_s)


async def _run(role: str, stop: asyncio.Event) -> int:
    """One process; its exit code."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "workers", "--until-parent-ends"),
        stdin=asyncio.subprocess.PIPE,
        env={**os.environ, f"{PREFIX}WORKER_ROLES": role},
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
