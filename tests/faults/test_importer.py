"""Importers and their Postgres broken in mid-sync: a run that did not end leaves nothing, and the next one heals."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from vendors import manifest
from webhooks import until

from schemas import postgres
from schemas.secrets import VENDOR_CREDENTIALS, Vault
from tests.conftest import MASTER_KEY
from tests.faults.stack import Process, Stack

DEVICES = 3_000
SIZE = 500


class Imports:
    """A vendor's cloud of some thousand devices, a connector to it, and workers that import."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.devices = DEVICES
        self.waiting_page = 0
        """At this page the vendor lets the importer wait."""
        self.reached = asyncio.Event()
        self.connector = ""

    async def answer(self, request: web.Request) -> web.Response:
        page = int(request.query["page"])
        if page == self.waiting_page:
            self.reached.set()
            await asyncio.sleep(3600)
        names = [{"id": n, "name": f"Device {n}"} for n in range((page - 1) * SIZE, min(page * SIZE, self.devices))]
        return web.json_response({"devices": names, "total": self.devices})

    async def open(self, url: str) -> None:
        """Make the connector, authorised and due."""
        (self.folder / "acme.toml").write_text(manifest("page", total=True))
        connection = await postgres.connect(self.stack.postgres.dsn(), "faults")
        self.connector = "c" * 20
        sealed = Vault(MASTER_KEY, VENDOR_CREDENTIALS).seal(
            json.dumps({"entered": {"token": "t"}}).encode(), self.connector
        )
        await connection.execute(
            """INSERT INTO cloud_connectors (id, organization_id, project_id, space_id, provider, name, settings,
                                             status, credentials, inventory_at)
               SELECT $1, p.organization_id, p.id, s.id, 'acme', 'Acme', $2, 'Active', $3, now()
                 FROM projects p JOIN spaces s ON s.project_id = p.id""",
            self.connector,
            {"url": url},
            sealed,
        )
        await connection.close()

    async def worker(self) -> Process:
        """A worker that does nothing but import."""
        return await self.stack.worker(
            FLEETGATE_WORKER_ROLES="importer",
            FLEETGATE_MANIFESTS=str(self.folder),
            FLEETGATE_EGRESS_ALLOW="127.0.0.0/8",
            FLEETGATE_EGRESS_HTTP="true",
        )

    async def imported(self) -> int:
        """Devices that the connector imported, each with its events."""
        counts = await self.stack.query(
            """SELECT ARRAY[(SELECT count(*) FROM cloud_devices WHERE excluded IS NULL),
                            (SELECT count(*) FROM devices WHERE sn IS NULL),
                            (SELECT count(*) FROM event_outbox WHERE type = 'deviceClaimed')]"""
        )
        assert len(set(counts)) == 1, counts
        return int(counts[0])

    async def free_now(self) -> None:
        """As if the lease of the worker that died had run out."""
        await self.stack.query("UPDATE cloud_connectors SET lease_until = now() - interval '1 s' RETURNING true")


@pytest.fixture
async def imports(stack: Stack, tmp_path: Path) -> AsyncIterator[Imports]:
    folder = tmp_path / "manifests"
    folder.mkdir()
    made = Imports(stack, folder)
    app = web.Application()
    app.router.add_get("/devices", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await made.open(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield made
    await runner.cleanup()


async def _blocking(stack: Stack) -> Any:
    """A session that lets no one write devices: whoever applies a list waits in the middle of it."""
    connection = await asyncpg.connect(stack.postgres.dsn())
    lock = connection.transaction()
    await lock.start()
    await connection.execute("LOCK TABLE cloud_devices IN SHARE MODE")
    return connection


async def _applying(stack: Stack) -> bool:
    """Whether somebody waits there."""
    return bool(
        await stack.query(
            """SELECT EXISTS (SELECT FROM pg_stat_activity
                               WHERE application_name = 'fleetgate importer' AND wait_event_type = 'Lock')"""
        )
    )


async def test_a_worker_killed_while_it_reads_and_while_it_applies(imports: Imports) -> None:
    """Neither leaves a trace; the next worker imports all, once."""
    imports.waiting_page = 3
    worker = await imports.worker()
    await asyncio.wait_for(imports.reached.wait(), 20)
    await worker.kill()
    assert await imports.imported() == 0
    imports.waiting_page = 0
    await imports.free_now()
    blocking = await _blocking(imports.stack)
    worker = await imports.worker()
    await until(lambda: _applying(imports.stack))
    await worker.kill()
    await blocking.close()
    assert await imports.imported() == 0
    await imports.free_now()
    await imports.worker()
    await until(lambda: _count(imports, DEVICES))


async def _count(imports: Imports, wanted: int) -> bool:
    return await imports.imported() == wanted


async def test_postgres_restarted_while_a_list_is_applied(imports: Imports) -> None:
    """The worker goes on by itself; what was applied before stays as it was until then."""
    worker = await imports.worker()
    await until(lambda: _count(imports, DEVICES))
    imports.devices = DEVICES + SIZE
    blocking = await _blocking(imports.stack)
    await imports.stack.query("UPDATE cloud_connectors SET inventory_at = now() RETURNING true")
    await until(lambda: _applying(imports.stack))
    imports.stack.postgres.stop()
    blocking.terminate()
    imports.stack.postgres.start()
    assert await imports.imported() == DEVICES
    await imports.free_now()
    await until(lambda: _count(imports, DEVICES + SIZE))
    assert worker.child.returncode is None


async def test_two_workers_run_a_connector_one_at_a_time(imports: Imports) -> None:
    """However often it is due, one list is read at a time and none is applied twice."""
    for _ in range(2):
        await imports.worker()
    for _ in range(10):
        await imports.stack.query("UPDATE cloud_connectors SET inventory_at = now() RETURNING true")
        await asyncio.sleep(0.1)
    await until(lambda: _count(imports, DEVICES))
    overlapping = await imports.stack.query(
        """SELECT count(*) FROM cloud_runs a JOIN cloud_runs b ON a.id < b.id
            WHERE tstzrange(a.started_at, a.finished_at) && tstzrange(b.started_at, b.finished_at)"""
    )
    assert overlapping == 0
