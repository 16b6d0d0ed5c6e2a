"""What one tenant's data connector costs the others: the p99 of a neighbour's webhooks beside whatever takes long.

The log holds as many events of the tenant as were asked for, and one of his connectors is behind by all of them. In
turns with nothing: somebody holds its row, it is disabled, it asks for a replay and for a synchronization of all its
devices, its ledger is read without end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from bench.beside import Beside, compare
from bench.field import Field, field, worker
from bench.results import Report
from bench.rig import SHARDS, UNDER_TEST, Rig
from gateway.stores.connectors import connector_queues, data_connectors, ledgers
from schemas import postgres

RATE = 200
"""Events of the neighbour a second."""
SETTLED_S = 1.0
"""Of this load come before anything is measured."""
MADE_AT_ONCE = 1_000_000
"""Events made in one transaction."""


async def run(rig: Rig, report: Report, *, rounds: int, seconds: float, behind: int) -> None:
    """Each of them, `rounds` times."""
    valkey = rig.valkey("everysec")
    async with field(rig) as made:
        tenant = await _Tenant.make(made, behind, report)
        report.progress(f"{behind:,} events and {len(rig.device_ids):,} devices are there")
        neighbour = await made.project("neighbour")
        await made.connector(neighbour, "/timed/neighbour")
        besides: dict[str, Beside] = {
            "its row held": tenant.held,
            "disabled": tenant.disabled,
            "a replay": tenant.replay,
            "a synchronization": tenant.synchronized,
            "its ledger read": tenant.ledger,
        }

        async def measure() -> float:
            made.forget()
            await made.trickle([neighbour], RATE, seconds)
            await asyncio.sleep(0.2)
            return float(made.seen()["/timed/neighbour"]["p99_ms"])

        async with worker(rig, valkey, "dispatcher", UNDER_TEST):
            await made.trickle([neighbour], RATE, SETTLED_S)
            await made.until(int(RATE * SETTLED_S * 0.9), "/timed/")
            await asyncio.sleep(SETTLED_S)
            await compare(report, "connectors", besides, measure, rounds=rounds, at_most=1.2)


class _Tenant:
    """One whose connectors take long: one that is far behind and whose endpoint is dead, one whose receiver is slow."""

    def __init__(self, field: Field, lagging: str, slow: str) -> None:
        self._field = field
        self._lagging = lagging
        self._slow = slow

    @classmethod
    async def make(cls, field: Field, behind: int, report: Report) -> "_Tenant":
        """Goes on with what an earlier run left, where the rig is kept."""
        project_id = field.rig.project_id
        await field.clear()
        lagging = await field.connector(project_id, "/wrong/lagging")
        await field.pool.execute("UPDATE connector_positions SET seq = 1, stored_at = now() - interval '31 days'")
        there = await field.pool.fetchval("SELECT sum(next_seq - 1)::bigint FROM shards")
        for n in range(there, behind, MADE_AT_ONCE):
            await field.happen(project_id, min(MADE_AT_ONCE, behind - n))
            report.progress(f"{min(behind, n + MADE_AT_ONCE):,} events are there")
        await field.pool.execute(
            """INSERT INTO device_state (shard, device_id, last_seen_at, message_seq, message_stored_at)
               SELECT shard, id, now(), 1, now() FROM devices WHERE project_id = $1 ON CONFLICT DO NOTHING""",
            project_id,
            timeout=600,
        )
        await field.pool.execute(
            """INSERT INTO device_reported (shard, device_id, type, ts, seq, stored_at, data)
               SELECT shard, id, 'touch', now(), 1, now(), '{}' FROM devices WHERE project_id = $1
               ON CONFLICT DO NOTHING""",
            project_id,
            timeout=600,
        )
        await field.pool.execute("VACUUM ANALYZE events, device_state, device_reported", timeout=3600)
        return cls(field, lagging, await field.connector(project_id, "/slow/tenant"))

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        connection = await postgres.connect(self._field.rig.postgres.dsn(), "bench holder")
        async with connection.transaction():
            await connection.execute("SELECT FROM data_connectors WHERE id = $1 FOR UPDATE", self._slow)
            await self._field.happen(self._field.rig.project_id, 2_000)
            yield
        await connection.close()

    @asynccontextmanager
    async def disabled(self) -> AsyncIterator[None]:
        pool = self._field.pool
        places = await pool.fetch(
            "SELECT shard, seq, stored_at FROM connector_positions WHERE connector_id = $1", self._lagging
        )
        await pool.execute("UPDATE data_connectors SET status = 'USER_DISABLED' WHERE id = $1", self._lagging)
        yield
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE data_connectors SET status = 'ACTIVE' WHERE id = $1", self._lagging)
            await connection.executemany(
                "UPDATE connector_positions SET seq = $3, stored_at = $4 WHERE connector_id = $1 AND shard = $2",
                [(self._lagging, *place) for place in places],
            )
            await connection.execute("DELETE FROM connector_jobs")

    @asynccontextmanager
    async def replay(self) -> AsyncIterator[None]:
        now = datetime.now(UTC)
        async with self._field.pool.acquire() as connection, connection.transaction():
            held = await data_connectors.lock(connection, self._field.rig.project_id, self._slow)
            await connector_queues.replay(connection, SHARDS, held, now - timedelta(days=2), now)
        yield
        await self._end_jobs()

    @asynccontextmanager
    async def synchronized(self) -> AsyncIterator[None]:
        async with self._field.pool.acquire() as connection, connection.transaction():
            held = await data_connectors.lock(connection, self._field.rig.project_id, self._slow)
            await connector_queues.synchronize(connection, held)
        yield
        await self._end_jobs()

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[None]:
        async def read() -> None:
            while True:
                await ledgers.ledger(self._field.pool, self._lagging)

        reading = asyncio.create_task(read())
        yield
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading

    async def _end_jobs(self) -> None:
        """What is left of them would be beside what is measured next."""
        await self._field.pool.execute("UPDATE data_connectors SET status = 'USER_DISABLED' WHERE id = $1", self._slow)
        while await self._field.pool.fetchval("SELECT count(*) FROM connector_jobs WHERE state = 'RUNNING'"):
            await asyncio.sleep(0.1)
        await self._field.pool.execute("UPDATE data_connectors SET status = 'ACTIVE' WHERE id = $1", self._slow)
