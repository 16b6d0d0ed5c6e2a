"""Keeps processes running for `fleetgate up`: what dies starts again, after a pause that grows while it keeps dying.

Everything is started from the main thread, and nothing here blocks it: a child dies with the *thread* that started it.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from gateway.cli.local.child import dying_with_parent
from gateway.cli.local.embedded import EmbeddedError, Server
from gateway.cli.stopping import stopped

STOP_TIMEOUT_S = 30
RESTART_S = (0.1, 5.0)
LIVED_S = 10.0
"""A process that lived so long died of something new."""
SERVER_CHECK_S = 0.5


class UpError(Exception):
    """The stack cannot start; the text says why and what to change."""


class Pause:
    """How long to wait before the next start."""

    def __init__(self) -> None:
        self._next_s = RESTART_S[0]
        self._began_s = time.monotonic()

    def began(self) -> None:
        """The process starts now."""
        self._began_s = time.monotonic()

    def take(self) -> float:
        """The process died; seconds."""
        pause_s = RESTART_S[0] if time.monotonic() - self._began_s > LIVED_S else self._next_s
        self._next_s = min(2 * pause_s, RESTART_S[1])
        return pause_s


async def keep(
    command: list[str], environment: Mapping[str, str], log: Path, stop: asyncio.Event, fds: tuple[int, ...] = ()
) -> None:
    """Keep one child running until `stop`, then end it gracefully; `log` gets what it prints."""
    pause = Pause()
    while not stop.is_set():
        with log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=fds,
                start_new_session=True,
                preexec_fn=dying_with_parent(),
            )
        pause.began()
        ended, stopping = asyncio.create_task(child.wait()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not ended.done():
                child.terminate()
                await asyncio.wait({ended}, timeout=STOP_TIMEOUT_S)
            if not ended.done():
                child.kill()
                await ended
        if not stop.is_set():
            _complain(f"{log.stem} ended with {child.returncode}, starts again; see {log}")
            await stopped(stop, pause.take())


async def answering(server: Server, stop: asyncio.Event) -> None:
    """Wait until a server that was launched answers. Raises EmbeddedError."""
    while not server.ready() and not await stopped(stop, 0.02):
        server.check()


async def keep_server(server: Server, stop: asyncio.Event) -> None:
    """Launch a server again whenever it died; those who use it connect again by themselves."""
    pause = Pause()
    while not await stopped(stop, SERVER_CHECK_S):
        if server.running:
            continue
        _complain(f"{server.name} ended, starts again; see {server.log}")
        if await stopped(stop, pause.take()):
            return
        pause.began()
        try:
            server.launch()
        except (EmbeddedError, OSError) as error:
            _complain(f"{server.name}: {error}")


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
