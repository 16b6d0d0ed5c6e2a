"""The machine under test: servers, edges and workers as real processes, each on the core it is given.

Everything the system under test runs goes to core 0 unless a workload says otherwise; load and stores share the rest.
With one core there is nothing to separate and the figures say so by themselves.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from uuid import UUID

from gateway.cli.local.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from gateway.stores import models
from gateway.stores.tenants import organizations, projects, spaces
from schemas import ids, keys, postgres, redis
from schemas.postgres import Connection

MASTER_KEY = "b0" * 32
SHARDS = 4
UNDER_TEST, REST = "0", ",".join(str(core) for core in range(1, os.cpu_count() or 1)) or "0"
START_S = 30.0
FILL_S = 600.0


def pinned(cores: str, *command: str) -> list[str]:
    """A command line that runs on these cores only."""
    return ["taskset", "-c", cores, *command] if shutil.which("taskset") else list(command)


class Process:
    """A child process that answers HTTP once it is up."""

    def __init__(self, command: list[str], probe: str = "", environment: Mapping[str, str] = {}) -> None:
        self._child = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while probe and not _answers(probe):
            assert self._child.poll() is None, f"{command} ended with {self._child.returncode}"
            assert time.monotonic() < deadline, f"{command} is not up after {START_S} s"
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        return self._child.pid

    def stop(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        self._child.wait(30)


def _answers(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False


class Rig:
    """Servers in a folder of their own, a tenant, and as many devices as were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices = folder / "devices.txt"
        """Written when all of them are there."""
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.device_ids: list[str] = []
        self.model_id = UUID(int=0)
        self.project_id = UUID(int=0)
        self._processes: list[Process] = []
        self.valkeys: list[EmbeddedValkey] = []

    def valkey(self, fsync: str, **settings: str) -> EmbeddedValkey:
        """A Valkey beside the load, its shards open and empty; `settings` are its own."""
        server = EmbeddedValkey(
            self.folder / f"valkey-{len(self.valkeys)}" / "data", port=free_port(), fsync=fsync, memory="4gb"
        )
        shutil.rmtree(server.folder.parent, ignore_errors=True)
        server.folder.parent.mkdir()
        server.start(**settings)
        assert server.process is not None
        with contextlib.suppress(OSError):
            os.sched_setaffinity(server.process.pid, {int(core) for core in REST.split(",")})
        self.valkeys.append(server)
        return server

    def edge(self, valkey: EmbeddedValkey, cores: str = UNDER_TEST, **settings: str) -> tuple[str, Process]:
        """One edge process with these settings beside the usual ones; its URL."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = pinned(cores, sys.executable, "-m", "gateway")
        process = Process(command, f"{url}/livez", self.environment(valkey, port) | settings)
        self._processes.append(process)
        return url, process

    def worker(self, valkey: EmbeddedValkey, cores: str = REST) -> Process:
        """One worker process."""
        process = Process(pinned(cores, sys.executable, "-m", "workers"), "", self.environment(valkey))
        self._processes.append(process)
        return process

    def peer(self, command: list[str], url: str) -> str:
        """Another server on the core under test; its URL."""
        self._processes.append(Process(pinned(UNDER_TEST, *command), url))
        return url

    def environment(self, valkey: EmbeddedValkey, port: int | None = None) -> dict[str, str]:
        """The settings of one process."""
        given = {
            "FLEETGATE_POSTGRES_DSN": self.postgres.dsn(),
            "FLEETGATE_REDIS_URL": valkey.url,
            "FLEETGATE_MASTER_KEY": MASTER_KEY,
            "FLEETGATE_LOG_LEVEL": "error",
        }
        return given if port is None else given | {"FLEETGATE_BIND": f"127.0.0.1:{port}"}

    async def populate(self, devices: int) -> None:
        """A tenant, a model and claimed devices; those of an earlier run where its folder was kept."""
        connection = await postgres.connect(self.postgres.dsn(), "bench")
        await postgres.migrate(connection, shards=SHARDS, master_key=MASTER_KEY)
        if self.devices.exists():
            self.device_ids = [line.split()[0] for line in self.devices.read_text().splitlines()]
            self.model_id = await connection.fetchval("SELECT id FROM device_models ORDER BY id LIMIT 1")
            self.project_id = await connection.fetchval("SELECT id FROM projects ORDER BY id LIMIT 1")
            await connection.close()
            return
        organization = await organizations.create(connection, "Bench")
        project = await projects.create(connection, organization.id, "Bench")
        space = await spaces.create(connection, organization.id, project.id, "Bench")
        model = await models.create(connection, organization.id, vendor="Bench", name="Bench")
        self.model_id, self.project_id = model.id, project.id
        fresh = [ids.new_id() for _ in range(devices)]
        self.device_ids = [str(device_id) for device_id in fresh]
        columns = ["id", "shard", "model_id", "sn", "firmware_version"]
        columns += ["organization_id", "project_id", "space_id", "claimed_at"]
        claimed_at = await connection.fetchval("SELECT now()")
        place = (organization.id, project.id, space.id, claimed_at)
        async with without_indexes(connection, "devices"):
            await connection.copy_records_to_table(
                "devices",
                columns=columns,
                records=(
                    (device_id, ids.shard_of(text.encode(), SHARDS), model.id, text, "1.0.0", *place)
                    for device_id, text in zip(fresh, self.device_ids, strict=True)
                ),
                timeout=FILL_S,
            )
        # They never called and bear no labels: that is how the worker would find them.
        await connection.execute("TRUNCATE standings_due")
        await connection.execute(
            """INSERT INTO device_standings (device_id, organization_id, project_id, space_id, status, seen_at)
               SELECT id, organization_id, project_id, space_id, 'never_seen', '-infinity' FROM devices""",
            timeout=FILL_S,
        )
        await connection.execute("VACUUM ANALYZE devices", timeout=FILL_S)
        await connection.close()
        self.devices.write_text("".join(f"{text} {self.key(text)}\n" for text in self.device_ids))

    def key(self, device_id: str) -> str:
        """A device's access key."""
        return ids.AccessKeys(MASTER_KEY).issue(device_id, 0)

    @property
    def postgres_pid(self) -> int:
        """Postgres' first process."""
        assert self.postgres.process is not None
        return self.postgres.process.pid

    def stop(self) -> None:
        """End all processes and servers."""
        for process in self._processes:
            process.stop()
        for valkey in self.valkeys:
            valkey.stop()
        self.postgres.stop()


@contextlib.asynccontextmanager
async def without_indexes(connection: Connection, table: str) -> AsyncIterator[None]:
    """Fill or change a whole table, whose indexes are made anew behind that: a third of the time."""
    rows = await connection.fetch(
        """SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i
            WHERE i.indrelid = $1::text::regclass
              AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)""",
        table,
    )
    for row in rows:
        await connection.execute(f"DROP INDEX {row['name']}")
    yield
    for row in rows:
        await connection.execute(row["definition"], timeout=FILL_S)


@contextlib.asynccontextmanager
async def rig(devices: int, kept: Path | None = None) -> AsyncIterator[Rig]:
    """A rig for one workload; nothing of it is left afterwards, unless a folder is given in which it is kept."""
    with contextlib.nullcontext(kept) if kept else tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as folder:
        made = Rig(Path(folder))
        if kept and not made.devices.exists():
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
        made.postgres.start()
        try:
            await made.populate(devices)
            yield made
        finally:
            made.stop()


async def open_shards(valkey: EmbeddedValkey) -> None:
    """Empty the ingest streams and mark the replies complete, as a shard's owner does: for edges without workers."""
    client = redis.connect(valkey.url)
    for shard in range(SHARDS):
        stream = keys.ingest(shard)
        await client.hset(keys.reply(shard), "!", "1")
        await client.xadd(stream, {"b": b""})
        await client.xtrim(stream, maxlen=0, approximate=False)
    await client.aclose()


async def until_ready(url: str) -> None:
    """Wait for an edge to take telemetry."""
    deadline = time.monotonic() + START_S
    while not await asyncio.to_thread(_answers, f"{url}/readyz"):
        assert time.monotonic() < deadline, f"{url} is not ready after {START_S} s"
        await asyncio.sleep(0.1)
