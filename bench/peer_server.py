"""A server of others, started from its description on stores of its own and set up: ready for the same load as ours."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.request_template import Template
from bench.rig import UNDER_TEST, pinned
from bench.sides import LoopbackPostgres, Side, confine, pid_of, write
from gateway.cli.local.embedded import EmbeddedValkey, free_port

DESCRIPTIONS = Path(__file__).parent / "peer_servers.toml"
START_S = 180.0
"""A virtual machine that compiles as it goes, on one core, takes its time."""
_NAME = re.compile(r"\{(\w+)\}")


class Step(msgspec.Struct):
    """A request of the set-up; `takes` are members of its answer that later ones need, by the name they get."""

    path: str
    method: str = "POST"
    body: str = ""
    headers: dict[str, str] = {}
    takes: dict[str, str] = {}
    each_device: bool = False


class Description(msgspec.Struct):
    """How a server is started, set up and called."""

    kind: str
    title: str
    get: str
    """What to install, for who has not."""
    command: list[str]
    request: Template
    before: list[list[str]] = []
    """Commands that make its tables."""
    companion: list[str] = []
    """A server that it needs besides Postgres and Redis."""
    environment: dict[str, str] = {}
    files: dict[str, str] = {}
    ready: str = ""
    """A path that answers 200; without, its port is enough."""
    steps: list[Step] = []
    stored: str = ""


def descriptions(kind: str) -> dict[str, Description]:
    """Those of one kind, by name."""
    found = msgspec.convert(tomllib.loads(DESCRIPTIONS.read_text()), dict[str, Description])
    return {name: description for name, description in found.items() if description.kind == kind}


@asynccontextmanager
async def peer(
    name: str,
    description: Description,
    executable: Path,
    folder: Path,
    *,
    fsync: str,
    devices: list[str],
    receiver: str,
) -> AsyncIterator[Side]:
    """A server with these devices, which sends to this receiver, if it sends at all."""
    folder.mkdir(parents=True)
    database, valkey = (
        LoopbackPostgres(folder / "postgres"),
        EmbeddedValkey(folder / "valkey" / "data", port=free_port(), fsync=fsync, memory="4gb"),
    )
    (folder / "valkey").mkdir()
    values = {
        "executable": str(executable),
        "folder_of_executable": str(executable.parent),
        "folder": str(folder),
        "port": str(free_port()),
        "postgres": database.dsn(),
        "postgres_port": str(database.port),
        "redis": valkey.url,
        "redis_port": str(valkey.port),
        "companion_port": str(free_port()),
        "further_port": str(free_port()),
        "receiver": receiver,
    }
    with contextlib.ExitStack() as ending:
        for server in (database, valkey):
            server.start()
            ending.callback(server.stop)
        confine(pid_of(valkey))
        pids = {"Postgres": pid_of(database), "Valkey": pid_of(valkey)}
        for path, text in description.files.items():
            (folder / path).write_text(_filled(text, values))
        programs = _Programs(folder, {key: _filled(text, values) for key, text in description.environment.items()})
        ending.callback(programs.stop)
        if description.companion:
            pids["its broker"] = programs.start(description.companion, int(values["companion_port"]))
        for command in description.before:
            programs.run([_filled(word, values) for word in command])
        url = f"http://127.0.0.1:{values['port']}"
        command = [_filled(word, values) for word in description.command]
        pids = {"server": programs.start(command, int(values["port"])), **pids}
        programs.wait(lambda: not description.ready or _answers(url + description.ready))
        for step in description.steps:
            for device in devices if step.each_device else devices[:1]:
                values |= _done(step, url, {**values, "device": device})
        request = Template(
            path=_filled(description.request.path, values),
            body=_filled(description.request.body, values),
            headers={header: _filled(text, values) for header, text in description.request.headers.items()},
        )
        yield Side(name, description.title, url, write(request, folder), pids, database.dsn(), description.stored)


class _Programs:
    """Programs of the peer: on the core under test, with its environment, in its folder, where what they print is."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._started: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "programs.log").open("ab")

    def run(self, command: list[str]) -> None:
        """One that ends."""
        done = subprocess.run(
            command, env=self._environment, cwd=self._folder, stdout=self._log, stderr=self._log, timeout=START_S
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{self._tail()}"

    def start(self, command: list[str], port: int) -> int:
        """One that stays, once it listens; its first process."""
        started = subprocess.Popen(
            pinned(UNDER_TEST, *command),
            env=self._environment,
            cwd=self._folder,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._started.append(started)
        self.wait(lambda: _listens(port))
        return started.pid

    def wait(self, done: Callable[[], bool]) -> None:
        """Until it is so, or one of them has ended."""
        deadline = time.monotonic() + START_S
        while not done():
            for started in self._started:
                assert started.poll() is None, f"{started.args!r} ended with {started.returncode}:\n{self._tail()}"
            assert time.monotonic() < deadline, f"not up after {START_S} s:\n{self._tail()}"
            time.sleep(0.1)

    def stop(self) -> None:
        """All of them, with what they started, the last one first."""
        for started in reversed(self._started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGTERM)
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
        self._log.close()

    def _tail(self) -> str:
        return "\n".join((self._folder / "programs.log").read_text(errors="replace").splitlines()[-20:])


def _done(step: Step, url: str, values: dict[str, str]) -> dict[str, str]:
    """Ask for a step of the set-up; what is taken from the answer."""
    request = urllib.request.Request(
        url + _filled(step.path, values),
        _filled(step.body, values).encode() or None,
        {"Content-Type": "application/json"} | {k: _filled(text, values) for k, text in step.headers.items()},
        method=step.method,
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = msgspec.json.decode(answer.read() or b"{}")
    except urllib.error.HTTPError as refused:
        raise AssertionError(f"{step.method} {request.full_url}: {refused} {refused.read().decode()}") from refused
    return {name: found[member] for name, member in step.takes.items()}


def _filled(text: str, values: dict[str, str]) -> str:
    """Names in braces replaced by what they stand for; those of a message are left to the load generator."""
    return _NAME.sub(lambda found: values.get(found[1], found[0]), text)


def _answers(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status < 300)
    return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
