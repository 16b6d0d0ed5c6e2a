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
import resource
import secrets
import shlex
import shutil
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from gateway.cli import servers
from gateway.cli.arguments import count
from gateway.cli.local import demo, log_files
from gateway.cli.local.embedded import EmbeddedPostgres, EmbeddedValkey, Server, free_port
from gateway.cli.local.supervision import UpError, answering, keep, keep_server
from gateway.cli.migrate import migrate
from gateway.cli.secret_file import write_secret
from gateway.cli.stopping import stop_event, stopped
from gateway.listening import bind
from schemas import event_log, postgres
from schemas.command_settings import MigrateSettings, UpSettings
from schemas.environment import load
from schemas.settings import PREFIX, EdgeSettings, WorkerSettings

SECRETS = "secrets.json"
READY_TIMEOUT_S = 60
PROGRESS_S = (5.0, 60.0)
PROCESSES_MAX = 256
DEFAULT_BIND = "127.0.0.1:8080"
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""The loopback address that reaches a server which listens on all interfaces."""
DEMO_SETTINGS = {f"{PREFIX}EGRESS_HTTP": "true", f"{PREFIX}EGRESS_ALLOW": "127.0.0.0/8", f"{PREFIX}DOCS_PUBLIC": "true"}
"""The demo's connectors talk to this machine; real ones may not."""
_COMMAND = [sys.executable, "-m", "gateway.cli.main"]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "up", help="run the whole stack here", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--demo", action="store_true", help="with a demo tenant (keys in demo.json) and a small fleet")
    parser.add_argument("--edges", type=count(PROCESSES_MAX), default=1, metavar="N", help="edge processes (default 1)")
    parser.add_argument(
        "--workers", type=count(PROCESSES_MAX), default=1, metavar="N", help="worker processes (default 1)"
    )
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM; a second one does not wait for anything."""
    home = Path(load(UpSettings, os.environ).home).resolve()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stop = stop_event("stopping")
    with _locked(home), _listening() as listener, contextlib.ExitStack() as cleaning:
        base_url = _base_url(listener)
        environment, embedded = _environment(home, listener, base_url, demo=arguments.demo)
        for settings in (EdgeSettings, WorkerSettings):
            load(settings, environment)
        for server in embedded:
            server.launch()
            cleaning.callback(server.stop)
            await answering(server, stop)
        if not stop.is_set():
            servers.note(home, environment)
            await migrate(load(MigrateSettings, environment))
            await _serve(arguments, home, environment, embedded, listener, base_url, stop)
    return 0


async def _serve(
    arguments: argparse.Namespace,
    home: Path,
    environment: dict[str, str],
    embedded: list[Server],
    listener: socket.socket,
    base_url: str,
    stop: asyncio.Event,
) -> None:
    """Keep everything running until `stop`."""

    async with asyncio.TaskGroup() as group:

        def child(name: str, command: list[str], *fds: int) -> None:
            group.create_task(keep(command, environment, log_files.begun(home, name), stop, fds), name=name)

        def simulator(name: str, *words: str) -> None:
            # Devices, receivers and vendors are told what they would be told elsewhere: none of our secrets.
            outside = {known: value for known, value in environment.items() if not known.startswith(PREFIX)}
            group.create_task(keep([*_COMMAND, name, *words], outside, log_files.begun(home, name), stop), name=name)

        def logs() -> list[Path]:
            return [*(home / "log").glob("*.log"), *(server.log for server in embedded)]

        group.create_task(log_files.keep_short(logs, stop), name="logs")
        for server in embedded:
            group.create_task(keep_server(server, stop), name=server.name)
        for n in range(arguments.edges):
            child(f"edge-{n}", [sys.executable, "-m", "gateway", "--fd", str(listener.fileno())], listener.fileno())
        for n in range(arguments.workers):
            child(f"worker-{n}", [sys.executable, "-m", "workers"])
        demo_file, port, cloud = home / "demo.json", free_port(), free_port()
        if arguments.demo:
            simulator("vendor", "--port", str(cloud))
            simulator("receiver", "--port", str(port), "--demo", str(demo_file))
        await _until_ready(base_url, home, stop)
        if stop.is_set():
            return
        if arguments.demo:
            keys = load(WorkerSettings, environment)
            urls = f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{cloud}"
            await demo.prepare(keys.postgres_dsn, keys, demo_file, base_url, *urls)
            simulator("fleet", "--demo", str(demo_file), "--rollout")
            group.create_task(_report_progress(keys.postgres_dsn, stop), name="progress")
            url = environment[f"{PREFIX}PUBLIC_URL"]
            print(f"portal:   {await demo.sign_in_link(keys.postgres_dsn, demo_file, url)}", flush=True)
            _explain(base_url, home)
        print(f"ready {base_url}", flush=True)


def _explain(base_url: str, home: Path) -> None:
    def value(file: str, name: str) -> str:
        read = f"import json, sys; print(json.load(open(sys.argv[1]))['{name}'])"
        return f'$(python3 -c "{read}" {shlex.quote(str(home / file))})'

    key = value("demo.json", "organization_key")
    print(f'devices:  curl -H "Authorization: {key}" {base_url}/core/v1/organization/devices')
    if f"{PREFIX}METRICS_TOKEN" not in os.environ:
        print(f'metrics:  curl -H "Authorization: Bearer {value(SECRETS, "metrics_token")}" {base_url}/metrics')
    print(f'imported: curl -H "Authorization: {key}" {base_url}/core/v1/organization/connectors')
    print(f'firmware: curl -H "Authorization: {value("demo.json", "partner_key")}" {base_url}/core/v1/partner/rollouts')
    print(f"webhooks: tail -f {shlex.quote(str(home / 'log' / 'receiver.log'))}    API: {base_url}/docs")
    print(f"keys:     {home / 'demo.json'}    logs: {home / 'log'}    stop: Ctrl-C")


async def _report_progress(dsn: str, stop: asyncio.Event) -> None:
    """Print what has been stored: after 5 s, then at growing intervals up to a minute."""
    wait_s = PROGRESS_S[0]
    while not await stopped(stop, wait_s):
        wait_s = min(2 * wait_s, PROGRESS_S[1])
        with contextlib.suppress(postgres.PostgresAway):
            connection = await postgres.connect(dsn, "up")
            try:
                shards = await event_log.shards(connection)
                devices = await connection.fetch("SELECT id FROM devices WHERE deleted_at IS NULL")
                stored = await connection.fetchval(
                    """SELECT coalesce(sum(count), 0) FROM ingest_ledger
                        WHERE shard = ANY($1::smallint[]) AND outcome = 'stored'""",
                    shards,
                )
                online = await connection.fetchval(
                    """SELECT count(*) FROM device_state
                        WHERE shard = ANY($1::smallint[]) AND device_id = ANY($2::uuid[]) AND NOT offline""",
                    shards,
                    [device["id"] for device in devices],
                )
            finally:
                await connection.close()
            print(f"stored {stored} messages; {online} of {len(devices)} devices online", flush=True)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (home / "lock").open("w")
    except OSError as error:
        raise UpError(f"cannot use {home}: {error.strerror}; set {PREFIX}HOME to a folder of yours") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpError(f"another fleetgate runs in {home}: stop it or set {PREFIX}HOME") from None
        yield


@contextlib.contextmanager
def _listening() -> Iterator[socket.socket]:
    address = os.environ.get(f"{PREFIX}BIND", DEFAULT_BIND)
    try:
        listener = bind(address)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not host:port"
        raise UpError(f"cannot listen on {address}: {reason}; stop what uses it or set {PREFIX}BIND") from None
    with listener:
        yield listener


def _base_url(listener: socket.socket) -> str:
    """Where the stack is reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = WILDCARDS.get(host, host)
    scheme = "https" if os.environ.get(f"{PREFIX}TLS_CERTIFICATE") else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _environment(
    home: Path, listener: socket.socket, base_url: str, *, demo: bool
) -> tuple[dict[str, str], list[Server]]:
    """What the children get: the stores, master key and URL; and the servers to start where none are given."""
    metrics = home / "run" / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(mode=0o700, parents=True)
    environment = {**(DEMO_SETTINGS if demo else {}), **os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    host, port = listener.getsockname()[:2]
    environment[f"{PREFIX}BIND"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    environment.setdefault(f"{PREFIX}PUBLIC_URL", base_url)
    environment.setdefault(f"{PREFIX}FILE_STORE", str(home / "files"))
    if certificate := environment.get(f"{PREFIX}TLS_CERTIFICATE"):
        environment.setdefault("SSL_CERT_FILE", certificate)  # the demo fleet trusts it, whoever signed it
    embedded: list[Server] = []
    if f"{PREFIX}POSTGRES_DSN" not in environment:
        database = EmbeddedPostgres(home / "postgres")
        embedded.append(database)
        environment[f"{PREFIX}POSTGRES_DSN"] = database.dsn()
    if f"{PREFIX}REDIS_URL" not in environment:
        valkey = EmbeddedValkey(home / "valkey")
        embedded.append(valkey)
        environment[f"{PREFIX}REDIS_URL"] = valkey.url
    for name, secret in _secrets(home / SECRETS).items():
        environment.setdefault(f"{PREFIX}{name.upper()}", secret)
    return environment, embedded


def _secrets(path: Path) -> dict[str, str]:
    """The master key and the token for metrics of this home, made at the first start (mode 600)."""
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    if missing := {"master_key", "metrics_token"} - set(known):
        known |= {name: secrets.token_hex(32) for name in sorted(missing)}
        write_secret(path, known)
    return known


async def _until_ready(base_url: str, home: Path, stop: asyncio.Event) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is ourselves that we ask

    def ask() -> bool:
        with urllib.request.urlopen(f"{base_url}/readyz", timeout=2, context=context) as answer:  # noqa: S310
            return bool(answer.status == 200)

    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not await stopped(stop, 0.05):
                with contextlib.suppress(urllib.error.URLError, OSError):
                    if await asyncio.to_thread(ask):
                        return
    except TimeoutError:
        raise UpError(f"not ready after {READY_TIMEOUT_S} s; the logs are in {home / 'log'}") from None
