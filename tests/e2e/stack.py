"""`fleetgate up --demo` as a process, the way a person runs it."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil

from gateway.cli.local.embedded import free_port


class Up:
    """A running `fleetgate up --demo`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = {**os.environ, "FLEETGATE_HOME": str(home), "FLEETGATE_BIND": self.url[7:]}

    async def start(self) -> str:
        """Start it and wait for its `ready` line; returns what it printed."""
        self.process = await self.command("up", "--demo")
        assert self.process.stdout is not None
        said = ""
        async with asyncio.timeout(60):
            while not said.endswith(f"ready {self.url}\n"):
                line = (await self.process.stdout.readline()).decode()
                assert line, said
                said += line
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        return said

    async def command(self, *words: str, **settings: str) -> asyncio.subprocess.Process:
        """Start a `fleetgate` command with the settings of this stack, and these."""
        command = [sys.executable, "-m", "gateway.cli.main", *words]
        pipe = asyncio.subprocess.PIPE
        environment = {**self.environment, **settings}
        return await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=pipe)

    async def end(self, how: signal.Signals) -> int:
        """Signal it, and wait until neither it nor any child is left; returns its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        code = await self.process.wait()
        async with asyncio.timeout(40):
            while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in self.children):
                await asyncio.sleep(0.05)
        return code

    @property
    def demo(self) -> dict[str, Any]:
        """What demo.json holds."""
        found: dict[str, Any] = json.loads((self.home / "demo.json").read_text())
        return found
