"""What following the log costs where there are very many projects and connectors: a read of its tail, and a write of
the journal of attempts. Both happen several times a second, so each is measured at two sizes.

The read is of what was stored in the last moment, of one project, as it is made for a thousand projects with connectors
and for ten thousand. The write is of a quarter of a second of a thousand connectors that are all busy.
"""

import functools
import time
from datetime import datetime
from statistics import median
from uuid import UUID, uuid4

from prometheus_client import CollectorRegistry

from bench.field import Field
from bench.results import Report
from bench.rig import SHARDS, Rig
from bench.timing import median_s
from schemas import postgres
from schemas.metrics import Metrics
from schemas.postgres import Pool
from workers.dispatcher.client import Answer, Cause
from workers.dispatcher.delivery import Delivery
from workers.dispatcher.journal import Journal
from workers.dispatcher.reading import EventLog, Span, by_index

PROJECTS = (1_000, 10_000)
NEW, BEHIND = 60, 100_000
"""Events of one read, and of the log behind them."""
READS, ROUNDS = 51, 9
CONNECTORS = (100, 1_000)
ATTEMPTS = 3
"""Of each connector between two writes: a success, and two that failed."""


async def run(rig: Rig, report: Report) -> None:
    """Both, at two sizes."""
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 4)
    await _tail(rig, pool, report)
    await _journal(rig, pool, report)
    await pool.close()


async def _tail(rig: Rig, pool: Pool, report: Report) -> None:
    field = Field(rig, pool, "")
    await field.happen(rig.project_id, BEHIND)
    await pool.execute("VACUUM ANALYZE events", timeout=600)
    since: datetime = await pool.fetchval("SELECT now() - interval '1 day'")
    lows = {row["shard"]: row["next_seq"] for row in await pool.fetch("SELECT shard, next_seq FROM shards")}
    await field.happen(rig.project_id, NEW)
    spans = [Span(shard, lows[shard], lows[shard] + NEW, since) for shard in range(SHARDS)]
    log = EventLog()
    connection = await postgres.connect(rig.postgres.dsn(), "bench")
    await by_index(connection)

    async def read(projects: set[UUID]) -> None:
        assert len(await log.read_tail(connection, spans, projects)) == NEW

    followed = [{rig.project_id} | {uuid4() for _ in range(count - 1)} for count in PROJECTS]
    taken = [[await median_s(READS, functools.partial(read, each)) for each in followed] for _ in range(ROUNDS)]
    few_s, many_s = (median(times) for times in zip(*taken, strict=True))
    await connection.close()
    for count, took in zip(PROJECTS, (few_s, many_s), strict=True):
        report.add("followers", f"a read of the tail, {count:,} projects", f"{took * 1e3:,.2f} ms", seconds=took)
    report.ratio("tail_read_of_ten_times_the_projects", many_s / few_s, at_most=1.5)


async def _journal(rig: Rig, pool: Pool, report: Report) -> None:
    field, took = Field(rig, pool, "http://127.0.0.1:1"), 0.0
    for count in CONNECTORS:
        journal = Journal(pool, Metrics(CollectorRegistry()))
        while len(field.connectors) < count:
            await field.connector(rig.project_id, "/")
        writes: list[float] = []
        for _ in range(ROUNDS):
            _note(journal, field.connectors)
            more = True
            while more:
                began = time.perf_counter()
                more = await journal.write(time.time())
                writes.append(time.perf_counter() - began)
        took = median(writes)
        report.add(
            "followers", f"a write of attempts, {count:,} busy connectors", f"{took * 1e3:,.1f} ms", writes=writes
        )
    report.ratio("write_of_attempts_ms", took * 1e3, at_most=50)


def _note(journal: Journal, connectors: list[str]) -> None:
    now_s = time.time()
    for connector_id in connectors:
        for attempt in range(ATTEMPTS):
            cause = Cause.STATUS if attempt else None
            journal.note(connector_id, Delivery(None, now_s), Answer(cause, 500 if cause else 200, 0.004, ""), now_s)
