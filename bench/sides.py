"""The sides of a comparison with servers of others: each has one core, the same, for all its processes and stores.

Client and receiver have the other cores. Postgres and Valkey are the same binaries with the same settings on all
sides, reached over TCP on loopback, because not every driver speaks Unix sockets.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec
import psutil

from bench import costs, load
from bench.field import worker
from bench.generator import Outcome
from bench.request_template import Template
from bench.rig import UNDER_TEST, Rig, until_ready
from gateway.cli.local.embedded import EmbeddedPostgres, EmbeddedValkey, free_port

OURS = "ours"
MESSAGE = Template(
    path="/v1/devices/{device}/telemetry",
    headers={"Authorization": "{key}"},
    body='{"status":"online","timestamp":"{now}",'
    '"telemetries":{"n":{n},"cpu":12.5,"mem":44,"disk":81,"up":true,"fw":"1.2.3"}}',
)
STORED = "SELECT count(*) FROM events WHERE type = 'telemetry'"


class Side(NamedTuple):
    """A server that is up, what it is sent, and the first process of each kind that works for it."""

    name: str
    title: str
    url: str
    template: Path
    pids: dict[str, int]
    dsn: str
    stored: str
    """SQL that counts the messages in its store."""

    async def load(self, devices: Path, *, connections: int, seconds: float, rate: float = 0.0) -> Outcome:
        """One run of the client that all sides have."""
        return await load.generate(
            self.url, devices, connections=connections, seconds=seconds, rate=rate, template=self.template
        )

    async def messages(self) -> int:
        """Messages stored by now."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return int(await connection.fetchval(self.stored))
        except asyncpg.UndefinedTableError:  # who makes tables when something comes
            return 0
        finally:
            await connection.close()

    def used(self) -> dict[str, float]:
        """Seconds of a core that its processes have used by now."""
        return {kind: costs.cpu_s(pid) for kind, pid in self.pids.items()}

    def per_message(self, before: dict[str, float], messages: int) -> dict[str, float]:
        """µs of a core for each of so many messages since then."""
        return {kind: 1e6 * (used - before[kind]) / max(messages, 1) for kind, used in self.used().items()}


def accepted(sent: Outcome) -> int:
    """What was answered with 2xx, also behind the time in which answers count for the rate."""
    return sum(count for status, count in sent.statuses.items() if status.startswith("2"))


class LoopbackPostgres(EmbeddedPostgres):
    """The embedded one, on a loopback port besides."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()

    def dsn(self, database: str = "fleetgate") -> str:
        return f"postgresql://fleetgate@127.0.0.1:{self.port}/{database}"

    def _spawn(self, command: list[str], user: int | None = None) -> None:
        super()._spawn([*command, "-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}"], user)

    def launch(self) -> None:
        super().launch()
        assert self.process is not None
        confine(self.process.pid)


def confine(pid: int) -> None:
    """Let a process, all its threads and what it starts later have the core under test alone."""
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, OSError, AttributeError):  # ended meanwhile; a system without it
            for thread in process.threads():
                os.sched_setaffinity(thread.id, {int(UNDER_TEST)})


@asynccontextmanager
async def stores(folder: Path, devices: int) -> AsyncIterator[Rig]:
    """Our stores, with a tenant and devices."""
    rig = Rig(folder)
    rig.postgres = LoopbackPostgres(folder / "postgres")
    rig.postgres.start()
    try:
        await rig.populate(devices)
        yield rig
    finally:
        rig.stop()


@asynccontextmanager
async def ours(rig: Rig, roles: str, fsync: str) -> AsyncIterator[Side]:
    """One edge and one worker on the core under test, beside their stores."""
    valkey = rig.valkey(fsync)
    confine(pid_of(valkey))
    async with worker(rig, valkey, roles, UNDER_TEST) as working:
        url, edge = rig.edge(valkey, UNDER_TEST)
        await until_ready(url)
        pids = {"edge": edge.pid, "worker": working.pid, "Valkey": pid_of(valkey), "Postgres": rig.postgres_pid}
        yield Side(OURS, OURS, url, write(MESSAGE, rig.folder), pids, rig.postgres.dsn(), STORED)


def pid_of(server: EmbeddedPostgres | EmbeddedValkey) -> int:
    """The first process of a server that runs."""
    assert server.process is not None
    return server.process.pid


def write(template: Template, folder: Path) -> Path:
    """Where the load generator finds it."""
    path = folder / "request.json"
    path.write_bytes(msgspec.json.encode(template))
    return path
