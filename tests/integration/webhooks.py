"""Receivers of webhooks that behave as a test wants, and a project whose events are owed to connectors."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.stores import models
from gateway.stores.connectors import ledgers
from gateway.stores.tenants import organizations, projects, spaces
from schemas import ids, postgres
from schemas.deliveries import SLOTS
from schemas.metrics import Metrics
from schemas.postgres import Executor, Pool
from schemas.secrets import CONNECTOR_SECRETS, Vault
from schemas.settings import WorkerSettings
from tests.conftest import MASTER_KEY, SHARDS
from workers.dispatcher import slices, store
from workers.dispatcher.dispatcher import Dispatcher
from workers.dispatcher.reading import by_index

WAIT_S = 20.0
_numbers = itertools.count(1)


async def until(condition: Callable[[], Any], wait_s: float = WAIT_S) -> Any:
    """Wait until the condition (plain or awaitable) holds; its value."""
    value = None
    try:
        async with asyncio.timeout(wait_s):
            while True:
                value = condition()
                if isinstance(value, Awaitable):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {wait_s} s; last seen: {value!r}") from None


# Receivers ---------------------------------------------------------------------------------------------------


@dataclass
class Received:
    """One request as it arrived."""

    headers: dict[str, str]
    body: bytes
    at: float
    path: str

    @property
    def event_id(self) -> str:
        return str(msgspec.json.decode(self.body)["event"]["eventId"])


Behaviour = Callable[[web.Request, Received], Awaitable[web.StreamResponse]]


def answers(status: int, text: str = "", **headers: str) -> Behaviour:
    """An answer at once."""

    async def behave(_request: web.Request, _received: Received) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return behave


def answers_after(seconds: float, status: int = 200) -> Behaviour:
    """An answer that takes its time."""

    async def behave(_request: web.Request, _received: Received) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(status=status)

    return behave


async def hangs(_request: web.Request, _received: Received) -> web.StreamResponse:
    """No answer at all."""
    await asyncio.Event().wait()
    raise AssertionError


async def resets(request: web.Request, _received: Received) -> web.StreamResponse:
    """The connection breaks instead of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def endless(status: int, pause_s: float, part: bytes) -> Behaviour:
    """An answer whose body never ends."""

    async def behave(request: web.Request, _received: Received) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        while True:
            await response.write(part)
            await asyncio.sleep(pause_s)

    return behave


class Receiver:
    """A server that keeps what it received; `behave` may be exchanged at any time."""

    def __init__(self) -> None:
        self.behave: Behaviour = answers(200)
        self.received: list[Received] = []
        self.under_way = 0
        self.most_under_way = 0
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "Receiver":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen on loopback."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        received = Received(dict(request.headers), body, asyncio.get_running_loop().time(), request.path)
        self.received.append(received)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self.behave(request, received)
        finally:
            self.under_way -= 1

    @property
    def event_ids(self) -> list[str]:
        """Of all requests, in order of arrival."""
        return [received.event_id for received in self.received]

    @property
    def counts(self) -> Counter[str]:
        """How often each event arrived."""
        return Counter(self.event_ids)


# A project and its connectors ----------------------------------------------------------------------------------


class MovedClock:
    """A wall clock that tests move, and nobody else: the machine's may be set while they run."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._began_s = time.time() - time.monotonic()

    def __call__(self) -> float:
        return self._began_s + time.monotonic() + self.ahead_s

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self(), UTC)

    def move(self, *, days: float = 0, seconds: float = 0) -> None:
        self.ahead_s += 86400 * days + seconds


@dataclass
class Project:
    """A project with devices, whose events are stored as the flusher stores them."""

    pool: Pool
    organization_id: UUID
    project_id: UUID
    devices: list[UUID] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    async def connector(self, url: str, **columns: Any) -> str:
        """An ACTIVE connector; its id. `secret` and `headers` are given in the clear."""
        connector_id = ids.new_xid()
        vault = Vault(MASTER_KEY, CONNECTOR_SECRETS)
        columns = {"status": "ACTIVE", "project_id": self.project_id, "url": url, **columns}
        sealed_columns(columns, vault, connector_id)
        names = ", ".join(["id", *columns])
        places = ", ".join(f"${n}" for n in range(1, len(columns) + 2))
        await self.pool.execute(
            f"INSERT INTO data_connectors ({names}) VALUES ({places})", connector_id, *columns.values()
        )
        return connector_id

    async def change(self, connector_id: str, **columns: Any) -> None:
        """Change some columns, as a PATCH does."""
        sealed_columns(columns, Vault(MASTER_KEY, CONNECTOR_SECRETS), connector_id)
        sets = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, 2))
        await self.pool.execute(f"UPDATE data_connectors SET {sets} WHERE id = $1", connector_id, *columns.values())

    async def row(self, connector_id: str) -> Any:
        return await self.pool.fetchrow("SELECT * FROM data_connectors WHERE id = $1", connector_id)

    async def happen(
        self, count: int = 1, event_type: str = "touch", *, labels: Any = None, stored_at: datetime | None = None
    ) -> list[str]:
        """Events, spread over the devices (and so over the shards); their ids in order."""
        stored_at = stored_at or datetime.now(UTC)
        stamp = stored_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        rows: dict[int, list[tuple[UUID, Any]]] = {}
        for n in range(count):
            device_id = self.devices[n % len(self.devices)]
            shard = ids.shard_of(str(device_id).encode(), SHARDS)
            rows.setdefault(shard, []).append((device_id, {event_type: {"updateTime": stamp, "n": n}}))
        made: list[str] = []
        async with self.pool.acquire() as connection, connection.transaction():
            for shard, events in sorted(rows.items()):
                seq = await connection.fetchval(
                    "UPDATE shards SET next_seq = next_seq + $2 WHERE shard = $1 RETURNING next_seq - $2",
                    shard,
                    len(events),
                )
                columns = ("shard", "seq", "stored_at", "type", "device_id", "project_id", "ts", "data", "labels")
                await connection.copy_records_to_table(
                    "events",
                    columns=columns,
                    records=[
                        (shard, seq + n, stored_at, event_type, device_id, self.project_id, stored_at, data, labels)
                        for n, (device_id, data) in enumerate(events)
                    ],
                )
                made += [ids.event_id(int(stored_at.timestamp()), shard, seq + n) for n in range(len(events))]
        return made

    async def ledger(self, connector_id: str) -> ledgers.Ledger:
        """The connector's ledger, which must add up."""
        found = await ledgers.ledger(self.pool, connector_id)
        assert found is not None
        ended = found.delivered + found.expired + found.dropped + found.superseded
        assert found.accepted == ended + found.pending, found
        return found

    async def settled(self, connector_id: str) -> ledgers.Ledger | None:
        """The ledger once nothing is pending and nothing lies ahead."""
        found = await self.ledger(connector_id)
        return None if found.pending or found.backlog else found

    async def finish_jobs(self) -> None:
        """Work on all jobs of connectors until they are done, as a dispatcher does."""
        connection = await postgres.connect(self.dsn, "jobs")
        await by_index(connection)
        while running := await store.jobs(connection):
            for job in running:
                assert (await slices.work(connection, *job)).worked
        await connection.close()

    @asynccontextmanager
    async def dispatcher(
        self, clock: Callable[[], float] | None = None, *, owning: bool = True, **options: Any
    ) -> AsyncIterator[Dispatcher]:
        """A dispatcher that has all slots, or none at first, in the tests' own event loop. It forgets no connector."""
        settings = {"egress_allow": "127.0.0.0/8,::1/128", "egress_http": True, **self.settings}
        settings.update({name: options.pop(name) for name in list(options) if name in WorkerSettings.__struct_fields__})
        metrics = Metrics(CollectorRegistry())
        made = Dispatcher(
            WorkerSettings(postgres_dsn=self.dsn, redis_url="", master_key=MASTER_KEY, **settings),
            metrics,
            **({"clock": clock} if clock else {}),
            **options,
        )
        stop, done = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(made.run(stop))]
            tasks += [group.create_task(made.own(slot, done)) for slot in range(SLOTS if owning else 0)]
            try:
                yield made
                assert made.stalls is None or made.stalls.overlooked() == []
            finally:
                done.set()
                stop.set()
                _, left = await asyncio.wait(tasks, timeout=WAIT_S)
                for task in left:
                    task.cancel()
                assert not left, "the dispatcher does not end"
        assert metrics.connectors_stalled._value.get() == 0

    @property
    def dsn(self) -> str:
        return str(self.settings_dsn)

    settings_dsn: str = ""


def sealed_columns(columns: dict[str, Any], vault: Vault, connector_id: str) -> None:
    """Encrypt those that are stored encrypted, in place."""
    for name in ("secret", "previous_secret"):
        if name in columns:
            columns[name] = vault.seal(columns[name].encode(), connector_id)
    if "headers" in columns:
        columns["headers"] = vault.seal(msgspec.json.encode(columns["headers"]), connector_id)


async def make_project(pool: Pool, dsn: str, devices: int = 8, device_type: str = "touch") -> Project:
    """A project of a new organization."""
    number = next(_numbers)
    async with pool.acquire() as connection:
        organization = await organizations.create(connection, f"Organization {number}")
        project = await projects.create(connection, organization.id, "Project")
        space = await spaces.create(connection, organization.id, project.id, "Space")
    model = await models.create(pool, organization.id, vendor="Vendor", name="Model")
    await pool.execute("UPDATE device_models SET device_type = $2 WHERE id = $1", model.id, device_type)
    made = Project(pool, organization.id, project.id, settings_dsn=dsn)
    for n in range(devices):
        made.devices.append(await _device(pool, model.id, organization.id, project.id, space.id, f"SN{n}"))
    return made


async def _device(
    executor: Executor, model_id: UUID, organization_id: UUID, project_id: UUID, space_id: UUID, sn: str
) -> UUID:
    device_id = ids.new_id()
    await executor.execute(
        """INSERT INTO devices (id, shard, model_id, sn, firmware_version, organization_id, project_id, space_id,
                                claimed_at)
           VALUES ($1, $2, $3, $4, '1.0.0', $5, $6, $7, now())""",
        device_id,
        ids.shard_of(str(device_id).encode(), SHARDS),
        model_id,
        sn,
        organization_id,
        project_id,
        space_id,
    )
    return device_id
