"""A stack that has next to nothing to do: what `fleetgate up --demo` with ten devices takes of a core, by process."""

import asyncio
import os
import subprocess
import sys
import tempfile

import psutil

from bench.costs import own_cpu_s
from bench.results import Report
from gateway.cli.local.embedded import free_port

SETTLED_S = 20.0
"""Until the demo's first devices, its import and its first wave are done with."""
SHARE_MAX = 0.01
KINDS = {"workers": "worker", "--fd": "edge", "fleet": "devices", "receiver": "receiver", "vendor": "vendor"}
"""By a word of the command line."""


async def run(report: Report, *, seconds: float) -> None:
    """Shares of a core over so many seconds."""
    with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as home:
        environment = {**os.environ, "FLEETGATE_HOME": home, "FLEETGATE_BIND": f"127.0.0.1:{free_port()}"}
        command = [sys.executable, "-m", "gateway.cli.main", "up", "--demo"]
        stack = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert stack.stdout is not None
            while not (line := await asyncio.to_thread(stack.stdout.readline)).startswith("ready"):
                assert line, "the stack did not start"
            await asyncio.sleep(min(SETTLED_S, seconds))
            before = _used(stack.pid)
            await asyncio.sleep(seconds)
            after = _used(stack.pid)
        finally:
            stack.terminate()
            stack.wait(60)
    shares = {kind: (after[kind] - before.get(kind, 0.0)) / seconds for kind in after}
    for kind, share in sorted(shares.items(), key=lambda item: -item[1]):
        report.add("resting", f"{kind}, of a core", f"{100 * share:.2f} %", share=share)
    report.ratio("resting_stack", sum(shares.values()), at_most=SHARE_MAX)


def _used(pid: int) -> dict[str, float]:
    """Seconds of a core that the processes of the stack have used by now, by kind."""
    stack = psutil.Process(pid)
    used = {"supervisor": own_cpu_s(stack)}
    for process in stack.children(recursive=True):
        kind = _kind(process)
        used[kind] = used.get(kind, 0.0) + own_cpu_s(process)
    return used


def _kind(process: psutil.Process) -> str:
    name, words = process.name(), process.cmdline()
    return next((kind for word, kind in KINDS.items() if word in words), name.removesuffix("-server"))
