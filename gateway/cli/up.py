"""`fleetgate up`: the whole stack on this machine, from one command.

Starts PostgreSQL and Valkey where no URL is given, migrates, binds the listening socket, starts edges and workers and
restarts whatever dies, servers too. The socket is the supervisor's, so connections wait while an edge is restarted.
Children die with the supervisor; what a crashed run left behind does not stop the next start.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.cli import demo, servers
from gateway.cli.child import die_with_parent
from gateway.cli.device_client import write_secret
from gateway.cli.embedded import (
    EmbeddedError,
    EmbeddedPostgres,
    EmbeddedValkey,
    Server,
    free_port,
)
from gateway.cli.migrate import migrate
from gateway.edge import bind
from schemas import postgres
from schemas.settings import EdgeSettings, MigrateSettings, UpSettings, load

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
RESTART_S = (0.1, 5.0)
SERVER_CHECK_S = 0.5
TELL_S = (5.0, 60.0)
PROCESSES_MAX = 256
DEMO_SETTINGS = {"FLEETGATE_EGRESS_HTTP": "true", "FLEETGATE_EGRESS_ALLOW": "127.0.0.0/8"}
"""The demo's data connector sends to this machine; a real one may not."""
_COMMAND = [sys.executable, "-m", "gateway.cli.main"]


class UpError(Exception):
    """The stack cannot start; the text says why and what to change."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "up", help="run the whole stack here", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--demo", action="store_true", help="with a demo tenant (keys in demo.json) and a small fleet")
    parser.add_argument("--edges", type=_processes, default=1, metavar="N", help="edge processes (default 1)")
    parser.add_argument("--workers", type=_processes, default=1, metavar="N", help="worker processes (default 1)")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM; a second SIGINT does not wait for anything."""
    given = {n: v for n, v in os.environ.items() if n != "FLEETGATE_BIND"}
    settings = load(UpSettings, given)
    address = os.environ.get("FLEETGATE_BIND", "127.0.0.1:8080")
    home = Path(settings.home).resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if arguments.demo:
        for name, value in DEMO_SETTINGS.items():
            os.environ.setdefault(name, value)
    with _locked(home), _listening(address) as listener, contextlib.ExitStack() as cleaning:
        environment, embedded = _environment(home, address, cleaning)
        ours = {n: v for n, v in environment.items() if n.startswith("FLEETGATE_")}
        load(EdgeSettings, ours)
        await migrate(load(MigrateSettings, ours))
        base_url = f"http://{address}"
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _stop, stop)
        edge = [sys.executable, "-m", "gateway", "--fd", str(listener.fileno())]
        worker = [sys.executable, "-m", "workers"]
        async with asyncio.TaskGroup() as group:
            for server in embedded:
                group.create_task(_keep_server(server, stop), name=server.name)
            for n in range(arguments.edges):
                log = _log(home, f"edge-{n}")
                group.create_task(_keep(edge, environment, log, stop, (listener.fileno(),)), name=f"edge {n}")
            for n in range(arguments.workers):
                group.create_task(_keep(worker, environment, _log(home, f"worker-{n}"), stop), name=f"worker {n}")
            try:
                await _until_ready(base_url, home, stop)
                if arguments.demo and not stop.is_set():
                    port = free_port()
                    await demo.prepare(
                        environment["FLEETGATE_POSTGRES_DSN"],
                        environment["FLEETGATE_MASTER_KEY"],
                        home / "demo.json",
                        base_url,
                        f"http://127.0.0.1:{port}/",
                    )
                    receiver = ["receiver", "--port", str(port), "--demo", str(home / "demo.json")]
                    group.create_task(_keep(_COMMAND + receiver, environment, _log(home, "receiver"), stop))
                    _explain(base_url, home)
            except BaseException:
                stop.set()
                raise
            if not stop.is_set():
                print(f"ready {base_url}", flush=True)
                if arguments.demo:
                    fleet = ["fleet", "--demo", str(home / "demo.json")]
                    group.create_task(_keep(_COMMAND + fleet, environment, _log(home, "fleet"), stop))
                    group.create_task(_tell(environment["FLEETGATE_POSTGRES_DSN"], stop), name="progress")
    return 0


def _processes(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= PROCESSES_MAX:
        raise argparse.ArgumentTypeError(f"must be a number between 1 and {PROCESSES_MAX}")
    return int(text)


def _stop(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(130)
    print("stopping", flush=True)
    stop.set()


def _explain(base_url: str, home: Path) -> None:
    key = f"$(python3 -c \"import json; print(json.load(open('{home}/demo.json'))['organization_key'])\")"
    print(f'devices:  curl -H "Authorization: {key}" {base_url}/core/v1/organization/devices')
    print(f"metrics:  curl {base_url}/metrics")
    print(f"webhooks: tail -f {home}/log/receiver.log    API: {base_url}/docs")
    print(f"keys:     {home}/demo.json    logs: {home}/log    stop: Ctrl-C")


async def _tell(dsn: str, stop: asyncio.Event) -> None:
    """Say now and then what has been stored: soon after the start, later once a minute."""
    wait_s = TELL_S[0]
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), wait_s)
            return
        except TimeoutError:
            wait_s = min(2 * wait_s, TELL_S[1])
        with contextlib.suppress(*postgres.AWAY):
            connection = await postgres.connect(dsn, "up")
            row = await connection.fetchrow(
                """SELECT (SELECT coalesce(sum(count), 0) FROM ingest_ledger WHERE outcome = 'stored') AS stored,
                          count(*) AS devices, count(*) FILTER (WHERE NOT s.offline) AS heard
                     FROM devices d LEFT JOIN device_state s ON s.device_id = d.id WHERE d.deleted_at IS NULL"""
            )
            await connection.close()
            assert row is not None
            print(f"stored {row['stored']} messages; {row['heard']} of {row['devices']} devices online", flush=True)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpError(f"another fleetgate runs in {home}: stop it or set FLEETGATE_HOME") from None
        yield


@contextlib.contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    try:
        listener = bind(address)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not host:port"
        raise UpError(f"cannot listen on {address}: {reason}; stop what uses it or set FLEETGATE_BIND") from None
    with listener:
        yield listener


def _environment(home: Path, address: str, cleaning: contextlib.ExitStack) -> tuple[dict[str, str], list[Server]]:
    """What the children get: the stores, started here where none are given, and the master key."""
    metrics = home / "run" / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(mode=0o700, parents=True)
    environment = {**os.environ, "FLEETGATE_BIND": address, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    embedded: list[Server] = []
    if "FLEETGATE_POSTGRES_DSN" not in environment:
        database = EmbeddedPostgres(home / "postgres")
        embedded.append(database)
        environment["FLEETGATE_POSTGRES_DSN"] = database.dsn()
    if "FLEETGATE_REDIS_URL" not in environment:
        valkey = EmbeddedValkey(home / "valkey", port=free_port())
        embedded.append(valkey)
        environment["FLEETGATE_REDIS_URL"] = valkey.url
    for server in embedded:
        server.start()
        cleaning.callback(server.stop)
    scheme = "https" if environment.get("FLEETGATE_TLS_CERTIFICATE") else "http"
    environment.setdefault("FLEETGATE_PUBLIC_URL", f"{scheme}://{address}")
    environment.setdefault("FLEETGATE_MASTER_KEY", _master_key(home / "secrets.json"))
    servers.note(home, environment)
    return environment, embedded


async def _keep_server(server: Server, stop: asyncio.Event) -> None:
    """Start a server again that died. It is started here and not in a thread, with which it would die."""
    while not stop.is_set():
        if server.process is None or server.process.poll() is not None:
            print(f"{server.name} ended, starts again; see {server.log}", file=sys.stderr, flush=True)
            try:
                server.start()
            except EmbeddedError as error:
                print(f"{server.name}: {error}", file=sys.stderr, flush=True)
        try:
            await asyncio.wait_for(stop.wait(), SERVER_CHECK_S)
        except TimeoutError:
            continue


def _master_key(path: Path) -> str:
    """The master key of this home, made at the first start (mode 600)."""
    if not path.exists():
        write_secret(path, {"master_key": secrets.token_hex(32)})
    key: str = json.loads(path.read_text())["master_key"]
    return key


def _log(home: Path, name: str) -> Path:
    """The log file of a child; the one of the previous start is kept beside it."""
    folder = home / "log"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}.log"
    if path.exists():
        path.replace(path.with_suffix(".log.1"))
    return path


async def _keep(
    command: list[str], environment: Mapping[str, str], log: Path, stop: asyncio.Event, fds: tuple[int, ...] = ()
) -> None:
    """Keep one child running until `stop`, then end it gracefully."""
    wait_s = RESTART_S[0]
    stopping = asyncio.create_task(stop.wait())
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
                preexec_fn=die_with_parent,
            )
        ended = asyncio.create_task(child.wait())
        began = asyncio.get_running_loop().time()
        await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            print(f"{log.stem} ended with {child.returncode}, starts again; see {log}", file=sys.stderr, flush=True)
            wait_s = RESTART_S[0] if asyncio.get_running_loop().time() - began > 10 else min(2 * wait_s, RESTART_S[1])
            await asyncio.wait({stopping}, timeout=wait_s)
            continue
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        done, _ = await asyncio.wait({ended}, timeout=STOP_TIMEOUT_S)
        if not done:
            child.kill()
            await ended


async def _until_ready(base_url: str, home: Path, stop: asyncio.Event) -> None:
    def ask() -> Any:
        with urllib.request.urlopen(f"{base_url}/readyz", timeout=2) as answer:  # noqa: S310
            return answer.status

    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not stop.is_set():
                with contextlib.suppress(urllib.error.URLError, OSError):
                    if await asyncio.to_thread(ask) == 200:
                        return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise UpError(f"not ready after {READY_TIMEOUT_S} s; the logs are in {home / 'log'}") from None
