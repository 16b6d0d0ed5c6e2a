"""What workloads of webhooks share: projects with connectors to one receiver, their events, and a dispatcher."""

import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from bench.rig import MASTER_KEY, REST, SHARDS, Process, Rig, pinned
from gateway.cli.local.embedded import EmbeddedValkey, free_port
from gateway.stores.tenants import projects
from schemas import ids, keys, postgres, redis
from schemas.postgres import Pool
from schemas.secrets import CONNECTOR_SECRETS, Vault
from workers.dispatcher import reading

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

    async def connector(self, project_id: UUID, path: str, *, port: int | None = None) -> str:
        """A signed connector, to the receiver or to another port."""
        connector_id = ids.new_xid()
        secret = Vault(MASTER_KEY, CONNECTOR_SECRETS).seal(SECRET.encode(), connector_id)
        await self.pool.execute(
            "INSERT INTO data_connectors (id, project_id, status, url, secret) VALUES ($1, $2, 'ACTIVE', $3, $4)",
            connector_id,
            project_id,
            (self.url if port is None else f"http://127.0.0.1:{port}") + path,
            secret,
        )
        self.connectors.append(connector_id)
        return connector_id

    async def clear(self) -> None:
        """Leave no connector behind."""
        await self.pool.execute("DELETE FROM data_connectors")
        self.connectors.clear()

    async def happen(self, project_id: UUID, count: int) -> None:
        """Events of this project, spread over all shards, in one transaction; millions are made by the server."""
        stored_at = datetime.now(UTC)
        stamp = stored_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        data = {
            "telemetry": {"updateTime": stamp, "status": "online", "telemetries": {"cpu": 12.5, "mem": 44, "up": True}}
        }
        device_ids = [UUID(device_id) for device_id in self.rig.device_ids[:1000]]
        async with self.pool.acquire() as connection, connection.transaction():
            for shard in range(SHARDS):
                share = (count + SHARDS - 1 - shard) // SHARDS
                seq = await connection.fetchval(
                    "UPDATE shards SET next_seq = next_seq + $2 WHERE shard = $1 RETURNING next_seq - $2", shard, share
                )
                await connection.execute(
                    """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
                       SELECT $1::smallint, $2::bigint + n, $3, 'telemetry', ($4::uuid[])[1 + n % cardinality($4)], $5,
                              $3, $6
                         FROM generate_series(0, $7::bigint - 1) n""",
                    *(shard, seq, stored_at, device_ids, project_id, data, share),
                    timeout=600,
                )

    async def trickle(
        self, project_ids: list[UUID], rate: int, seconds: float, tell: Callable[[UUID, str], None] | None = None
    ) -> None:
        """So many events a second, of each project in turn, stored in small transactions as a flusher does it,
        and told to who follows the log.

        `tell` is called with project and id of each before it can be sent."""
        device_ids = [UUID(device_id) for device_id in self.rig.device_ids[:1000]]
        columns = ("shard", "seq", "stored_at", "type", "device_id", "project_id", "ts", "data")
        told = [redis.connect(valkey.url) for valkey in self.rig.valkeys]
        loop = asyncio.get_running_loop()
        began = loop.time()
        made = 0
        while (passed := loop.time() - began) < seconds:
            count, shard = int(passed * rate) - made, made // 10 % SHARDS
            stored_at = datetime.now(UTC)
            data = {"touch": {"updateTime": stored_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}}
            rows = [
                (stored_at, "touch", device_ids[n % 1000], project_ids[n % len(project_ids)], stored_at, data)
                for n in range(made, made + count)
            ]
            made += count
            async with self.pool.acquire() as connection, connection.transaction():
                seq = await connection.fetchval(
                    "UPDATE shards SET next_seq = next_seq + $2 WHERE shard = $1 RETURNING next_seq - $2", shard, count
                )
                await connection.copy_records_to_table(
                    "events", columns=columns, records=[(shard, seq + n, *row) for n, row in enumerate(rows)]
                )
                if tell is not None:
                    for n, row in enumerate(rows):
                        tell(row[3], ids.event_id(int(stored_at.timestamp()), shard, seq + n))
            for client in told:
                await client.publish(keys.STORED, "")
            await asyncio.sleep(0.02)
        for client in told:
            await client.aclose()

    async def until_flushed(self, valkey: EmbeddedValkey) -> None:
        """Wait until nothing is left to store."""
        client = redis.connect(valkey.url)
        while sum([await client.xlen(keys.ingest(shard)) for shard in range(SHARDS)]):
            await asyncio.sleep(0.1)
        await client.aclose()

    async def bodies(self, project_id: UUID) -> bytes:
        """The bodies of a project's first events, one a line."""
        spans = [reading.Span(0, 1, 1 << 60, datetime(2020, 1, 1, tzinfo=UTC))]
        events = await reading.EventLog().read_window(self.pool, project_id, spans, 1000)
        return b"\n".join(event.body(frozenset()) for event in events)

    def seen(self) -> dict[str, Any]:
        """What the receiver counted, by path."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def forget(self, prefix: str = "/") -> None:
        """Let the receiver begin anew, for the paths that begin so."""
        with urllib.request.urlopen(f"{self.url}/reset{prefix}", timeout=10):
            pass

    async def until(self, count: int, prefix: str = "/") -> None:
        """Wait until so many requests came to paths that begin so."""
        deadline = time.monotonic() + DRAIN_S
        while sum(figures["count"] for path, figures in self.seen().items() if path.startswith(prefix)) < count:
            assert time.monotonic() < deadline, f"{self.seen()} instead of {count} after {DRAIN_S} s"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def field(rig: Rig) -> AsyncIterator[Field]:
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
async def worker(rig: Rig, valkey: EmbeddedValkey, roles: str, cores: str, **settings: str) -> AsyncIterator[Process]:
    environment = {**rig.environment(valkey), **ON_LOOPBACK, "FLEETGATE_WORKER_ROLES": roles, **settings}
    process = Process(pinned(cores, sys.executable, "-m", "workers"), "", environment)
    try:
        yield process
    finally:
        process.stop()
