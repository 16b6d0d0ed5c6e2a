"""Edges and workers as forks of a Python that has imported them: to import it all anew is most of what a start costs.

Each is a process of its own with its own memory, environment and log, and runs `python -m gateway` from there on.
That a real start works is for the tests that run `fleetgate up`, and for those with a prelude.
"""

import asyncio
import multiprocessing
import os
import runpy
import signal
import sys
from pathlib import Path

IMPORTED = ["gateway.edge", "workers.checkpoints", "workers.own_process", "workers.service", __name__]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(IMPORTED)


class Fork:
    """A running process, as asyncio shows one that it started."""

    def __init__(self, module: str, words: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
        log.touch()
        self._process = _forks.Process(target=_become, args=(module, words, environment, str(log)), daemon=True)
        self._process.start()
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._process.sentinel, self._end)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code; that of a signal is negative."""
        return self._process.exitcode

    def send_signal(self, how: signal.Signals) -> None:
        os.kill(self.pid, how)

    def kill(self) -> None:
        self._process.kill()

    async def wait(self) -> int:
        """Wait for its end."""
        await self._ended.wait()
        self._process.join()
        assert self.returncode is not None
        return self.returncode

    def _end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._ended.set()


def _become(module: str, words: tuple[str, ...], environment: dict[str, str], log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
