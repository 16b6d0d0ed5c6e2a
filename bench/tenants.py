"""What one tenant costs the others at the API and at the importer: a key that asks for deep pages, vendors that do not
answer, and somebody who opens all the streams he gets.

The neighbour does one thing all the while, and its p99 is taken in turns with the other tenant and without:

    a deep-paging key    the neighbour lists its devices; the other asks for deep pages of a log, by 20 connections
    a slow vendor        the neighbour's list is to be read; lists of the other's 20 connectors never end
    a stream hoarder     an event of the neighbour is on its way to its stream; the other holds every stream he gets
"""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple
from uuid import UUID

import aiohttp
from aiohttp import web

from bench.beside import compare
from bench.results import Report
from bench.rig import MASTER_KEY, REST, SHARDS, Rig, open_shards, until_ready
from gateway.stores.accounts import credentials, members, service_accounts
from gateway.stores.tenants import organizations, projects, spaces
from schemas import ids, postgres, redis
from schemas.postgres import Pool
from schemas.secrets import VENDOR_CREDENTIALS, Vault, derived_secret
from schemas.settings import WorkerSettings
from workers.importer.importer import Importer

LIMIT = 1.5
SLOW_CONNECTORS, WAITING_S = 20, 0.01
HOARDED = 300
"""Streams that are asked for, by accounts with ten each."""
NEIGHBOUR_RATE = 50
"""Calls, or events, of the neighbour a second."""
STEPS = ("page=1000000", "page=9&per_page=1000", "status=error&per_page=1000", "page=2&status=error")
_EVENTS = ("shard", "seq", "stored_at", "type", "device_id", "project_id", "ts", "data")
_MANIFEST = """
title = "Bench"
base_url = "{url}"
requests_per_s = 1000.0
[settings.url]
label = "URL"
[credentials.token]
label = "Token"
[authentication]
kind = "bearer"
token = "{token}"
[list]
path = "/devices"
items = "devices"
[list.paging]
kind = "none"
[device]
id = "id"
name = "name"
"""


class Tenant(NamedTuple):
    """An organization with a project, and the ways to call for it."""

    organization_id: UUID
    project_id: UUID
    space_id: UUID
    device_id: UUID
    key: str
    accounts: list[str]
    """`Authorization` headers."""


async def run(rig: Rig, report: Report, *, rounds: int, seconds: float, events: int) -> None:
    """Each of the three, `rounds` times."""
    valkey = rig.valkey("everysec")
    await open_shards(valkey)
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 4)
    other, neighbour = [await _tenant(rig, pool, name) for name in ("Other", "Neighbour")]
    report.progress(f"storing {events:,} events")
    await _fill(pool, other, events)
    url, _ = rig.edge(valkey, REST)
    await until_ready(url)
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http:
        callers = _Callers(url, http, pool, other, neighbour, seconds)
        await callers.listing()  # to warm up
        besides = {"a deep-paging key": callers.deep_pages}
        await compare(report, "tenants", besides, callers.listing, rounds=rounds, at_most=LIMIT, decimals=1)
        besides = {"a stream hoarder": callers.hoarded}
        await compare(report, "tenants", besides, callers.streaming, rounds=rounds, at_most=LIMIT, decimals=1)
    client = redis.connect(valkey.url)
    async with _importing(rig, pool, client, other, neighbour, seconds) as lists:
        besides = {"a slow vendor": lists.slow}
        await compare(report, "tenants", besides, lists.reading, rounds=rounds, at_most=LIMIT, decimals=1)
    await client.aclose()
    await pool.close()


async def _tenant(rig: Rig, pool: Pool, name: str) -> Tenant:
    accounts = []
    async with pool.acquire() as connection:
        organization = await organizations.create(connection, name)
        project = await projects.create(connection, organization.id, name)
        space = await spaces.create(connection, organization.id, project.id, name)
        key = await credentials.mint_and_store(connection, "organization", owner_id=organization.id, name=name)
        for number in range(HOARDED // 10):
            made = await service_accounts.create(connection, project.id, f"{name} {number}", basic_auth_enabled=True)
            key_id = (await service_accounts.create_key(connection, made.id)).id
            await members.add(connection, organization.id, project.id, "project.user", service_account_id=made.id)
            accounts.append(aiohttp.encode_basic_auth(key_id, derived_secret(MASTER_KEY, key_id)))
        device_ids = [ids.new_id() for _ in range(200)]
        await connection.executemany(
            """INSERT INTO devices (id, shard, model_id, sn, firmware_version, organization_id, project_id, space_id,
                                    claimed_at, space_data_version)
               VALUES ($1, $2, $3, $4, '1.0.0', $5, $6, $7, now(), 1)""",
            [
                (
                    one,
                    ids.shard_of(str(one).encode(), SHARDS),
                    rig.model_id,
                    f"{name} {one}",
                    organization.id,
                    project.id,
                    space.id,
                )
                for one in device_ids
            ],
        )
    return Tenant(organization.id, project.id, space.id, device_ids[0], key.text, accounts)


async def _fill(pool: Pool, tenant: Tenant, events: int) -> None:
    """Messages of one device, a moment apart."""
    shard, now = ids.shard_of(str(tenant.device_id).encode(), SHARDS), datetime.now(UTC)
    data = {"telemetry": {"status": "online", "telemetries": {"cpu": 12.5, "mem": 44}}}
    async with pool.acquire() as connection, connection.transaction():
        seq = await connection.fetchval(
            "UPDATE shards SET next_seq = next_seq + $2 WHERE shard = $1 RETURNING next_seq - $2", shard, events
        )
        records = (
            (
                shard,
                seq + n,
                now,
                "telemetry",
                tenant.device_id,
                tenant.project_id,
                now - timedelta(seconds=n / 10),
                data,
            )
            for n in range(events)
        )
        await connection.copy_records_to_table("events", columns=_EVENTS, records=records, timeout=600)
    await pool.execute("VACUUM ANALYZE events", timeout=600)
    await pool.execute("CHECKPOINT", timeout=600)  # what was made is not to be written while others are measured


class _Callers:
    """The two of them at the edge."""

    def __init__(
        self, url: str, http: aiohttp.ClientSession, pool: Pool, other: Tenant, neighbour: Tenant, seconds: float
    ) -> None:
        self._url = url
        self._http = http
        self._pool = pool
        self._other = other
        self._neighbour = neighbour
        self._seconds = seconds

    async def listing(self) -> float:
        """The neighbour lists its devices at an even rate."""
        waits: list[float] = []

        async def ask() -> None:
            began = time.perf_counter()
            headers = {"authorization": self._neighbour.key}
            async with self._http.get("/core/v1/organization/devices?per_page=20", headers=headers) as answer:
                await answer.read()
                assert answer.status == 200
            waits.append(time.perf_counter() - began)

        await _evenly(NEIGHBOUR_RATE, self._seconds, ask)
        return _p99_ms(waits)

    @asynccontextmanager
    async def deep_pages(self) -> AsyncIterator[None]:
        """The other asks for pages that lie deep, as fast as it is answered."""

        paths = [f"/core/v1/organization/devices/histories?{step}" for step in STEPS]
        command = [sys.executable, "-m", "bench.asker", self._url, self._other.key, *paths]
        asker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert asker.stdout is not None
        try:
            await asker.stdout.readline()
            await asyncio.sleep(self._seconds)  # what it may do at once is behind it
            yield
        finally:
            asker.terminate()
            await asker.wait()

    async def streaming(self) -> float:
        """Events of the neighbour happen at an even rate, and come by its stream."""
        tenant, waits = self._neighbour, []
        shard = ids.shard_of(str(tenant.device_id).encode(), SHARDS)
        began: dict[str, float] = {}
        numbers = itertools.count()

        async def happen() -> None:
            number = f"{next(numbers)}"
            began[number] = time.perf_counter()
            await self._store(tenant, shard, number)

        path = f"/v2/projects/{tenant.project_id}/devices:stream"
        async with self._http.get(path, headers={"authorization": tenant.accounts[0]}) as answer:
            assert answer.status == 200

            async def listen() -> None:
                async for line in answer.content:
                    event = json.loads(line)["result"]["event"]
                    number = event["data"]["telemetry"]["telemetries"]["n"]
                    waits.append(time.perf_counter() - began[number])

            async with _all_the_while([listen()]):
                await _evenly(NEIGHBOUR_RATE, self._seconds, happen)
                while len(waits) < len(began):
                    await asyncio.sleep(0.01)
        return _p99_ms(waits)

    @asynccontextmanager
    async def hoarded(self) -> AsyncIterator[None]:
        """The other opens as many streams as it gets, and its events go to all of them."""
        tenant = self._other
        shard = ids.shard_of(str(tenant.device_id).encode(), SHARDS)
        path = f"/v2/projects/{tenant.project_id}/devices:stream"
        opened: list[int] = []

        async def hoard(authorization: str) -> None:
            async with self._http.get(path, headers={"authorization": authorization}) as answer:
                opened.append(answer.status)
                async for _ in answer.content:
                    pass

        async def happen() -> None:
            while True:
                await self._store(tenant, shard, "")
                await asyncio.sleep(1 / NEIGHBOUR_RATE)

        hoarders = [hoard(tenant.accounts[n // 10]) for n in range(HOARDED)]
        async with _all_the_while([*hoarders, happen()]):
            while len(opened) < HOARDED:
                await asyncio.sleep(0.01)
            yield
        await asyncio.sleep(0.5)

    async def _store(self, tenant: Tenant, shard: int, number: str) -> None:
        await self._pool.execute(
            """WITH next AS (UPDATE shards SET next_seq = next_seq + 1 WHERE shard = $1 RETURNING next_seq - 1 AS seq)
               INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
               SELECT $1, seq, now(), 'telemetry', $2, $3, now(), $4 FROM next""",
            shard,
            tenant.device_id,
            tenant.project_id,
            {"telemetry": {"telemetries": {"n": number}}},
        )


class _Lists:
    """Connectors of both at a vendor of ours, and an importer."""

    def __init__(self, pool: Pool, slow: list[str], neighbour: str, seconds: float) -> None:
        self._pool = pool
        self._slow = slow
        self._neighbour = neighbour
        self._seconds = seconds

    async def reading(self) -> float:
        """Again and again the neighbour's list is due: until it is read."""
        waits: list[float] = []
        ends_at = time.perf_counter() + 2 * self._seconds
        while time.perf_counter() < ends_at or len(waits) < 3:
            began = time.perf_counter()
            await self._due([self._neighbour])
            while not await self._pool.fetchval(
                "SELECT inventory_at > now() FROM cloud_connectors WHERE id = $1", self._neighbour
            ):
                await asyncio.sleep(WAITING_S)
            waits.append(time.perf_counter() - began)
        return _p99_ms(waits)

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """All of the other's lists are due, and none of them comes."""
        await self._due(self._slow)
        while not await self._pool.fetchval("SELECT count(*) FROM cloud_connectors WHERE lease_until > now()"):
            await asyncio.sleep(WAITING_S)
        yield
        await self._pool.execute(
            "UPDATE cloud_connectors SET inventory_at = NULL, revision = revision + 1 WHERE id = ANY($1)", self._slow
        )

    async def _due(self, connector_ids: list[str]) -> None:
        await self._pool.execute(
            "UPDATE cloud_connectors SET inventory_at = now(), status = 'Active' WHERE id = ANY($1)", connector_ids
        )


@asynccontextmanager
async def _importing(
    rig: Rig, pool: Pool, client: redis.Redis, other: Tenant, neighbour: Tenant, seconds: float
) -> AsyncIterator[_Lists]:
    folder = rig.folder / "manifests"
    folder.mkdir()
    vendor = await _vendor()
    try:
        (folder / "bench.toml").write_text(_MANIFEST)
        slow = [await _connector(pool, other, f"{vendor.url}/slow") for _ in range(SLOW_CONNECTORS)]
        quick = await _connector(pool, neighbour, vendor.url)
        importer = Importer(_settings(rig, folder), pool, client, SHARDS)
        stop = asyncio.Event()
        running = asyncio.create_task(importer.run(stop))
        lists = _Lists(pool, slow, quick, seconds)
        yield lists
        stop.set()
        await running
    finally:
        await vendor.close()


def _settings(rig: Rig, folder: Path) -> WorkerSettings:
    return WorkerSettings(
        postgres_dsn=rig.postgres.dsn(),
        redis_url="",
        master_key=MASTER_KEY,
        egress_allow="127.0.0.0/8",
        egress_http=True,
        manifests=str(folder),
    )


class _Vendor(NamedTuple):
    url: str
    close: Callable[[], Awaitable[None]]


async def _vendor() -> _Vendor:
    """A vendor's cloud: below `/slow` it never answers."""

    async def answer(request: web.Request) -> web.Response:
        if request.path.startswith("/slow"):
            await asyncio.sleep(3600)
        return web.json_response({"devices": [{"id": "a", "name": "A"}]})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return _Vendor(f"http://127.0.0.1:{runner.addresses[0][1]}", runner.cleanup)


async def _connector(pool: Pool, tenant: Tenant, url: str) -> str:
    connector_id = ids.new_xid()
    sealed = Vault(MASTER_KEY, VENDOR_CREDENTIALS).seal(b'{"entered":{"token":"t"}}', connector_id)
    await pool.execute(
        """INSERT INTO cloud_connectors (id, organization_id, project_id, space_id, provider, name, settings, status,
                                         credentials)
           VALUES ($1, $2, $3, $4, 'bench', $1, $5, 'Active', $6)""",
        connector_id,
        tenant.organization_id,
        tenant.project_id,
        tenant.space_id,
        {"url": url},
        sealed,
    )
    return connector_id


async def _evenly(rate: float, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
    """Begin something so often, whether or not what was begun before is done."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(max(10, int(rate * seconds))):
            await asyncio.sleep(began + number / rate - time.perf_counter())
            group.create_task(act())  # type: ignore[arg-type]


@asynccontextmanager
async def _all_the_while(acts: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(act) for act in acts]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def _p99_ms(waits: list[float]) -> float:
    return 1000 * quantiles(waits, n=100)[98]
