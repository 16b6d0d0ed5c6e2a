"""Real processes to break: servers, edges and workers of their own, load that remembers what was acknowledged."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp

from gateway.cli.local.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from gateway.stores import models
from gateway.stores.accounts import credentials
from gateway.stores.commands import definitions
from gateway.stores.tenants import organizations, projects, spaces
from schemas import ids, postgres
from tests.conftest import MASTER_KEY, SHARDS
from tests.faults.forks import Fork

RECOVERY_S = 40.0
LOG_CHARS = 5_000
WITHOUT_IMPORTER = "flusher,dispatcher,upkeep"


class Process:
    """One edge or worker; its log is kept for a test that fails."""

    def __init__(self, child: asyncio.subprocess.Process | Fork, log: Path) -> None:
        self.child = child
        self.log = log

    def signal(self, how: signal.Signals) -> None:
        self.child.send_signal(how)

    async def kill(self) -> None:
        """As a crash would."""
        if self.child.returncode is None:
            self.child.kill()
        await self.child.wait()

    async def logged(self, event: str) -> str:
        """Wait for this event in its log; the line."""
        async with asyncio.timeout(RECOVERY_S):
            while True:
                for line in self.log.read_text().splitlines():
                    if f'"{event}"' in line:
                        return line
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        try:
            async with asyncio.timeout(RECOVERY_S):
                return await self.child.wait()
        except TimeoutError:
            raise AssertionError(f"it does not end:\n{self.log.read_text()[-LOG_CHARS:]}") from None


async def prepare(folder: Path) -> None:
    """Make the data folder of a migrated PostgreSQL. To copy it takes a moment, to make one a second and a half."""
    server = EmbeddedPostgres(folder)
    server.start()
    connection = await postgres.connect(server.dsn(), "faults")
    await postgres.migrate(connection, shards=SHARDS, master_key=MASTER_KEY)
    await connection.close()
    server.stop()


def copy_of(prepared: Path, folder: Path) -> EmbeddedPostgres:
    """A PostgreSQL that starts from a copy of the `prepared` data folder."""
    subprocess.run(["cp", "-a", str(prepared), str(folder / "postgres")], check=True)
    return EmbeddedPostgres(folder / "postgres")


class Stack:
    """What a test breaks, around a migrated PostgreSQL."""

    def __init__(self, folder: Path, server: Any) -> None:
        self.folder = folder
        self.postgres = server
        self.valkey = EmbeddedValkey(folder / "valkey", port=free_port())
        self.url = f"http://127.0.0.1:{free_port()}"
        self.redis_url = self.valkey.url
        self.devices: list[str] = []
        self.organization_key = ""
        self.hardware_key = ""
        self.space_id = ""
        self._processes: list[Process] = []
        self._numbers = itertools.count()

    async def open(self, devices: int = 20) -> None:
        """Start the servers and make a tenant with claimed devices."""
        self.postgres.start()
        self.valkey.start()
        connection = await postgres.connect(self.postgres.dsn(), "faults")
        organization = await organizations.create(connection, "Acme")
        project = await projects.create(connection, organization.id, "Main")
        space = await spaces.create(connection, organization.id, project.id, "Hall")
        model = await models.create(connection, organization.id, vendor="Acme", name="Sensor", rate_limit=1_000_000)
        await definitions.add(connection, model.id, name="reboot", friendly_name="Restart")
        key = await credentials.mint_and_store(connection, "organization", owner_id=organization.id, name="faults")
        hardware = await credentials.mint_and_store(connection, "hardware", owner_id=model.id, name="faults")
        self.organization_key, self.hardware_key, self.space_id = key.text, hardware.text, str(space.id)
        for number in range(devices):
            device_id = id_in_shard(number % SHARDS)
            await connection.execute(
                """INSERT INTO devices (id, shard, model_id, sn, firmware_version, organization_id, project_id,
                                        space_id, claimed_at, space_data_version)
                   VALUES ($1, $2, $3, $4, '1.0.0', $5, $6, $7, now(), 1)""",
                device_id,
                number % SHARDS,
                model.id,
                f"SN{number}",
                organization.id,
                project.id,
                space.id,
            )
            self.devices.append(str(device_id))
        await connection.close()

    async def close(self) -> None:
        for process in self._processes:
            await process.kill()
        self.valkey.stop()
        self.postgres.stop(signal.SIGINT)

    async def edge(self, prelude: str = "", **settings: str) -> Process:
        """Start an edge and wait until it answers; `prelude` is run in its process before."""
        process = await self._start("gateway", prelude=prelude, FLEETGATE_BIND=self.url[7:], **settings)
        await self.until_answers("/livez", process)
        return process

    async def worker(self, *words: str, prelude: str = "", **settings: str) -> Process:
        """Start a worker; without the importer, which is a second process, unless the settings say so."""
        settings = {"FLEETGATE_WORKER_ROLES": WITHOUT_IMPORTER} | settings
        return await self._start("workers", *words, prelude=prelude, **settings)

    async def _start(self, module: str, *words: str, prelude: str = "", **settings: str) -> Process:
        number = next(self._numbers)
        log = self.folder / f"{module}-{number}.log"
        environment = {
            **os.environ,
            "FLEETGATE_POSTGRES_DSN": self.postgres.dsn(),
            "FLEETGATE_REDIS_URL": self.redis_url,
            "FLEETGATE_MASTER_KEY": MASTER_KEY,
            **settings,
        }
        if prelude:
            run = f"{prelude}\nimport runpy\nrunpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
            with log.open("wb") as output:
                process = Process(
                    await asyncio.create_subprocess_exec(
                        sys.executable, "-c", run, *words, env=environment, stdout=output, stderr=output
                    ),
                    log,
                )
        else:
            process = Process(Fork(module, words, environment, log), log)
        self._processes.append(process)
        return process

    async def until_answers(self, path: str, process: Process | None = None) -> None:
        """Wait for a 200."""
        async with aiohttp.ClientSession() as http, asyncio.timeout(RECOVERY_S):
            while True:
                assert process is None or process.child.returncode is None, process.log.read_text()
                try:
                    async with http.get(self.url + path) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.02)

    def access_key(self, device_id: str) -> str:
        return ids.AccessKeys(MASTER_KEY).issue(device_id, 0)

    async def query(self, sql: str, *arguments: Any) -> Any:
        """One value from Postgres."""
        connection = await postgres.connect(self.postgres.dsn(), "faults")
        try:
            return await connection.fetchval(sql, *arguments)
        finally:
            await connection.close()

    def logs(self) -> str:
        """How the log of each process ends."""
        return "\n".join(
            f"{process.log.name}, exit code {process.child.returncode}:\n{process.log.read_text()[-LOG_CHARS:]}"
            for process in self._processes
        )

    async def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any, Any]:
        """One request: status, JSON, headers. As the owner unless told otherwise."""
        headers = {"authorization": self.organization_key if key is None else key}
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self.url + path, json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json(), answer.headers


def id_in_shard(shard: int) -> UUID:
    """A new device's id that falls into this shard, so that the load reaches all of them whatever the chance."""
    return next(new for new in iter(ids.new_id, None) if ids.shard_of(str(new).encode(), SHARDS) == shard)


class Load:
    """Devices that send without pause; each message has a number, and the acknowledged ones are remembered."""

    def __init__(self, stack: Stack, connections: int = 16) -> None:
        self.acknowledged: set[int] = set()
        self.statuses: Counter[int] = Counter()
        self.sent = 0
        self._stack = stack
        self._stop = asyncio.Event()
        self._connections = connections

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._send(n), name=f"load {n}") for n in range(self._connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def until(self, acknowledged: int) -> None:
        """Go on until so many more messages were acknowledged."""
        goal = len(self.acknowledged) + acknowledged
        async with asyncio.timeout(RECOVERY_S):
            while len(self.acknowledged) < goal:
                await asyncio.sleep(0.01)

    async def until_status(self, status: int) -> None:
        """Go on until this status was answered once more."""
        before = self.statuses[status]
        async with asyncio.timeout(RECOVERY_S):
            while self.statuses[status] == before:
                await asyncio.sleep(0.01)

    async def _send(self, place: int) -> None:
        device_id = self._stack.devices[place % len(self._stack.devices)]
        headers = {"authorization": self._stack.access_key(device_id)}
        url = f"{self._stack.url}/v1/devices/{device_id}/telemetry"
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while not self._stop.is_set():
                number = self.sent
                self.sent += 1
                body = b'{"status":"online","telemetries":{"n":%d}}' % number
                try:
                    async with http.post(url, data=body, headers=headers) as answer:
                        await answer.read()
                        self.statuses[answer.status] += 1
                        if answer.status == 201:
                            self.acknowledged.add(number)
                        else:
                            await asyncio.sleep(0.02)
                except (aiohttp.ClientError, TimeoutError):
                    self.statuses[0] += 1
                    await asyncio.sleep(0.02)


async def assert_stored_once(stack: Stack, load: Load) -> None:
    """Every acknowledged message comes to be in history, each message at most once, and the ledger agrees."""
    assert load.acknowledged, load.statuses
    deadline = time.monotonic() + RECOVERY_S
    while True:
        found: list[int] = await stack.query(
            """SELECT coalesce(array_agg((data->'telemetry'->'telemetries'->>'n')::int), '{}')
                 FROM events WHERE type = 'telemetry'"""
        )
        missing = load.acknowledged.difference(found)
        if not missing:
            break
        assert time.monotonic() < deadline, f"{len(missing)} not stored, like {min(missing)}\n{stack.logs()}"
        await asyncio.sleep(0.05)
    assert len(found) == len(set(found)), [number for number, times in Counter(found).items() if times > 1][:10]
    ledger = await stack.query("SELECT coalesce(sum(count), 0)::int FROM ingest_ledger WHERE outcome = 'stored'")
    stored = await stack.query("SELECT count(*) FROM events WHERE type = 'telemetry'")
    assert ledger == stored
    assert await stack.query("SELECT count(*) FROM ingest_quarantine") == 0


async def assert_told_of_command(stack: Stack, device_id: str, command_id: str, *, soon: bool = False) -> None:
    """The device's next answer says that a command waits (or with `soon` one of the next), and the command is there."""
    key = stack.access_key(device_id)
    deadline = time.monotonic() + RECOVERY_S
    while True:
        status, answer, _ = await stack.call("POST", f"/v1/devices/{device_id}/telemetry", {"status": "online"}, key)
        if status == 201 and (answer["command"] or not soon):
            break
        assert time.monotonic() < deadline, f"answered {status} {answer}\n{stack.logs()}"
        await asyncio.sleep(0.05)
    assert answer["command"] is True
    _, command, _ = await stack.call("GET", f"/v1/devices/{device_id}/command", None, key)
    assert command["id"] == command_id


async def send_command(stack: Stack, device_id: str) -> str:
    """The owner sends a command; its id."""
    status, answer, _ = await stack.call(
        "POST", f"/core/v1/organization/devices/{device_id}/commands", {"command": "reboot"}
    )
    assert status == 201, answer
    return str(answer["id"])
