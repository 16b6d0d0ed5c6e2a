"""Webhooks: how fast one dispatcher sends, how soon an event arrives, what bad endpoints and backlogs cost the others.

The dispatcher has a core to itself; Postgres, the receiver and the load share the rest. The limit for the rate is a bare
aiohttp client on the same core, posting the same bodies to the same receiver, in turns with the dispatcher.
"""

import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from statistics import median
from typing import Any
from uuid import UUID

from bench.results import Report
from bench.rig import REST, SHARDS, UNDER_TEST, Process, Rig, pinned, until_ready
from gateway.cli.embedded import EmbeddedValkey, free_port
from gateway.stores import projects
from schemas import ids, postgres
from schemas.postgres import Pool
from schemas.secrets import CONNECTOR_SECRETS, Vault
from workers.dispatcher import store

CONNECTORS = 8
ENDPOINTS = 100
MASTER_KEY = "b0" * 32
SECRET = "the secret of all receivers in the benchmark"
ON_LOOPBACK = {"FLEETGATE_EGRESS_ALLOW": "127.0.0.0/8", "FLEETGATE_EGRESS_HTTP": "true"}
DRAIN_S = 180.0


class Field:
    """Projects with connectors to one receiver, and the events that they are owed."""

    def __init__(self, rig: Rig, pool: Pool, url: str) -> None:
        self.rig = rig
        self.pool = pool
        self.url = url
        self.connectors: list[str] = []

    async def project(self, name: str) -> UUID:
        """A project with no devices of its own; events may name any device."""
        organization_id = await self.pool.fetchval(
            "SELECT organization_id FROM projects WHERE id = $1", self.rig.project_id
        )
        return (await projects.create(self.pool, organization_id, name)).id

    async def connector(self, project_id: UUID, path: str) -> str:
        """A signed connector."""
        connector_id = ids.new_xid()
        secret = Vault(MASTER_KEY, CONNECTOR_SECRETS).seal(SECRET.encode(), connector_id)
        await self.pool.execute(
            "INSERT INTO data_connectors (id, project_id, status, url, secret) VALUES ($1, $2, 'ACTIVE', $3, $4)",
            connector_id,
            project_id,
            self.url + path,
            secret,
        )
        self.connectors.append(connector_id)
        return connector_id

    async def clear(self) -> None:
        """Leave no connector behind."""
        await self.pool.execute("DELETE FROM data_connectors")
        self.connectors.clear()

    async def happen(self, project_id: UUID, count: int) -> None:
        """Events of this project, spread over all shards, stored as a flusher stores them."""
        stored_at = datetime.now(UTC)
        stamp = stored_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        data = {
            "telemetry": {"updateTime": stamp, "status": "online", "telemetries": {"cpu": 12.5, "mem": 44, "up": True}}
        }
        device_ids = [UUID(device_id) for device_id in self.rig.device_ids[:1000]]
        columns = ("shard", "seq", "stored_at", "type", "device_id", "project_id", "ts", "data")
        async with self.pool.acquire() as connection, connection.transaction():
            for shard in range(SHARDS):
                share = (count + SHARDS - 1 - shard) // SHARDS
                seq = await connection.fetchval(
                    "UPDATE shards SET next_seq = next_seq + $2 WHERE shard = $1 RETURNING next_seq - $2", shard, share
                )
                await connection.copy_records_to_table(
                    "events",
                    columns=columns,
                    records=(
                        (shard, seq + n, stored_at, "telemetry", device_ids[n % 1000], project_id, stored_at, data)
                        for n in range(share)
                    ),
                    timeout=600,
                )

    async def bodies(self, project_id: UUID) -> bytes:
        """The bodies of a project's first events, one a line."""
        spans = [store.Span(0, 1, 1 << 60, datetime(2020, 1, 1, tzinfo=UTC))]
        events = await store.read_window(self.pool, project_id, spans, 1000)
        return b"\n".join(event.body(frozenset()) for event in events)

    def seen(self) -> dict[str, Any]:
        """What the receiver counted, by path."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return {path: figures for path, figures in found.items() if path not in ("/stats", "/reset")}

    def forget(self) -> None:
        """Let the receiver begin anew."""
        with urllib.request.urlopen(f"{self.url}/reset", timeout=10):
            pass

    async def until(self, count: int, prefix: str = "/") -> None:
        """Wait until so many requests came to paths that begin so."""
        deadline = time.monotonic() + DRAIN_S
        while sum(figures["count"] for path, figures in self.seen().items() if path.startswith(prefix)) < count:
            assert time.monotonic() < deadline, f"{self.seen()} instead of {count} after {DRAIN_S} s"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _field(rig: Rig) -> AsyncIterator[Field]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    receiver = Process(pinned(REST, sys.executable, "-m", "bench.receiver", str(port)), f"{url}/stats")
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 4)
    try:
        yield Field(rig, pool, url)
    finally:
        await pool.close()
        receiver.stop()


@asynccontextmanager
async def _worker(rig: Rig, valkey: EmbeddedValkey, roles: str, cores: str) -> AsyncIterator[None]:
    environment = {**rig.environment(valkey), **ON_LOOPBACK, "FLEETGATE_WORKER_ROLES": roles}
    process = Process(pinned(cores, sys.executable, "-m", "workers"), "", environment)
    try:
        yield
    finally:
        process.stop()


async def run(rig: Rig, report: Report, *, rounds: int, seconds: float, behind: int) -> dict[str, Any]:
    """All of it; returns the named figures. `behind` is the size of the backlog that is caught up with."""
    valkey = rig.valkey("everysec")
    figures: dict[str, Any] = {}
    async with _field(rig) as field:
        figures |= await _rate(field, valkey, report, rounds, seconds)
    report.figures("delivery", figures)
    return figures


async def _rate(field: Field, valkey: EmbeddedValkey, report: Report, rounds: int, seconds: float) -> dict[str, float]:
    """Signed deliveries a second of one process, against the bare client."""
    project_ids = [await field.project(f"rate {n}") for n in range(CONNECTORS)]
    await field.happen(project_ids[0], 1000)
    bodies = field.rig.folder / "bodies.txt"
    bodies.write_bytes(await field.bodies(project_ids[0]))
    each = int(seconds * 700)
    bare: list[float] = []
    ours: list[float] = []
    for number in range(rounds):
        bare.append(await _bare(field, bodies, seconds))
        for n, project_id in enumerate(project_ids):
            await field.connector(project_id, f"/ok/{n}")
            await field.happen(project_id, each)
        field.forget()
        async with _worker(field.rig, valkey, "dispatcher", UNDER_TEST):
            await field.until(CONNECTORS * each)
            seen = field.seen().values()
        took_s = max(path["last_at"] for path in seen) - min(path["first_at"] for path in seen)
        ours.append(CONNECTORS * each / took_s)
        await field.clear()
        report.progress(f"delivery: round {number + 1} of {rounds}")
    report.add("delivery", "bare aiohttp client, 64 requests at once", f"{median(bare):,.0f}/s", rate=median(bare))
    report.add("delivery", "one dispatcher, signed, 8 connectors", f"{median(ours):,.0f}/s", rate=median(ours))
    report.ratio("delivery_vs_bare_client", median(ours) / median(bare), at_least=0.55)
    return {"rate": median(ours), "bare_rate": median(bare)}


async def _bare(field: Field, bodies: Any, seconds: float) -> float:
    words = [sys.executable, "-m", "bench.bare_client", f"{field.url}/ok/bare", str(bodies), f"--seconds={seconds}"]
    process = await asyncio.create_subprocess_exec(*pinned(UNDER_TEST, *words), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, "the bare client failed"
    return float(output)
