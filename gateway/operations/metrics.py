"""`/metrics`: the counters of all processes, and what the stores look like at the moment of the scrape.

Counters and histograms are summed over the processes that share PROMETHEUS_MULTIPROC_DIR (see `schemas.metrics`).
Gauges are read from Redis and Postgres now, so they are the same whichever edge is asked. A store that is away costs
its gauges and a second, not the scrape.

Who may read: whoever has FLEETGATE_METRICS_TOKEN, sent as `Authorization: Bearer`; where none is set, nobody. Where a
call comes from says nothing: a proxy on this machine makes every caller look like one on this machine.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Metric, multiprocess
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.callers.authorization import presented_key
from gateway.api.dialects import PLAIN
from gateway.refusals import NotPermitted, Refusal, Unauthenticated
from gateway.services import Services
from gateway.stores.connectors import ledgers
from schemas import keys
from schemas.constant_time import same_text
from schemas.postgres import PostgresAway
from schemas.redis import RedisAway

STORE_TIMEOUT_S = 1.0

_FROM_POSTGRES = """
    SELECT (SELECT count(*) FROM event_outbox) AS outbox,
           (SELECT count(*) FROM reply_queue WHERE NOT forget) AS replies,
           (SELECT count(*) FROM cloud_connectors WHERE status = 'Active') AS importing,
           (SELECT count(*) FROM cloud_connectors WHERE status = 'Error') AS stuck,
           (SELECT count(*) FROM cloud_connectors WHERE held IS NOT NULL) AS held
"""
_LEDGER = """
    SELECT outcome, sum(count)::bigint AS total FROM ingest_ledger WHERE shard = ANY($1::smallint[]) GROUP BY outcome
"""
_INCIDENTS = "SELECT kind, count(*) AS open FROM incidents WHERE closed_at IS NULL GROUP BY kind"
_QUARANTINED = "SELECT count(*) FROM ingest_quarantine WHERE shard = ANY($1::smallint[])"


class _Found(Collector):
    """Families that were gathered before the exposition is written."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def metrics(request: Request) -> Response:
    """The metrics in Prometheus' text format; 401 or 403 for those who may not read them."""
    services: Services = request.state.services
    try:
        check(presented_key(request), services.settings.metrics_token)
    except Refusal as refusal:
        return PLAIN.refused(refusal)
    stores = CollectorRegistry()
    stores.register(_Found(await _of_stores(services)))
    text = prometheus_client.generate_latest(_of_processes()) + prometheus_client.generate_latest(stores)
    return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)


async def gathered(services: Services) -> list[Metric]:
    """All of them, for people."""
    return [*_of_processes().collect(), *await _of_stores(services)]


def _of_processes() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return prometheus_client.REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


async def _of_stores(services: Services) -> list[Metric]:
    families: list[Metric] = []
    for name, read in (("redis", _redis), ("postgres", _postgres)):
        up = GaugeMetricFamily(f"fleetgate_{name}_up", f"1 when {name} answers.")
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                families += await read(services)
            up.add_metric([], 1)
        except (RedisAway, PostgresAway, TimeoutError):
            up.add_metric([], 0)
        families.append(up)
    return families


def check(given: str, token: str) -> None:
    """Raises NotPermitted where no token is set, Unauthenticated for another one."""
    if not token:
        raise NotPermitted("Set FLEETGATE_METRICS_TOKEN to read the metrics")
    if not same_text(given, token):
        raise Unauthenticated("Metrics need the token of FLEETGATE_METRICS_TOKEN")


async def _redis(services: Services) -> list[Metric]:
    backlog = GaugeMetricFamily("fleetgate_backlog_entries", "Entries that wait in a shard's stream.", labels=["shard"])
    age = GaugeMetricFamily(
        "fleetgate_backlog_age_seconds", "Age of the oldest entry that waits; 0 when none does.", labels=["shard"]
    )
    pipeline = services.redis.pipeline(transaction=False)
    for shard in range(services.shards):
        pipeline.hmget(keys.progress(shard), "offset", "kept")
    stored: list[Any] = await pipeline.execute()
    pipeline = services.redis.pipeline(transaction=False)
    for shard, (offset, _) in enumerate(stored):
        pipeline.xlen(keys.ingest(shard))
        pipeline.xrange(keys.ingest(shard), min=f"({offset.decode()}" if offset else "-", count=1)
    found: list[Any] = await pipeline.execute()
    for shard, (length, oldest) in enumerate(zip(found[::2], found[1::2], strict=True)):
        backlog.add_metric([str(shard)], max(0, length - int(stored[shard][1] or 0)))
        since_s = int(oldest[0][0].partition(b"-")[0]) / 1000 if oldest else time.time()
        age.add_metric([str(shard)], max(0.0, time.time() - since_s))
    info: Any = await services.redis.info("memory")
    nodes = [info] if "used_memory" in info else list(info.values())
    used = GaugeMetricFamily("fleetgate_redis_memory_bytes", "Memory that Redis uses.")
    used.add_metric([], sum(node["used_memory"] for node in nodes))
    limit = GaugeMetricFamily("fleetgate_redis_memory_limit_bytes", "Memory that Redis may use; 0 is no limit.")
    limit.add_metric([], sum(node["maxmemory"] for node in nodes))
    return [backlog, age, used, limit]


async def _postgres(services: Services) -> list[Metric]:
    row = await services.postgres.fetchrow(_FROM_POSTGRES)
    assert row is not None
    ledger = CounterMetricFamily(
        "fleetgate_ledger_messages", "What became of every accepted message, by outcome.", labels=["outcome"]
    )
    shards = list(range(services.shards))
    stored: list[Metric] = []
    # A counter that leaves out a node that is away would go back: then there is none.
    with contextlib.suppress(PostgresAway):
        for counted in await services.postgres.fetch(_LEDGER, shards):
            ledger.add_metric([counted["outcome"]], counted["total"])
        lost = await services.postgres.fetchval(_QUARANTINED, shards)
        text = "Messages that could not be stored as events."
        stored = [ledger, GaugeMetricFamily("fleetgate_quarantined_messages", text, value=lost)]
    incidents = GaugeMetricFamily("fleetgate_incidents_open", "Open incidents, by who opened them.", labels=["kind"])
    for counted in await services.postgres.fetch(_INCIDENTS):
        incidents.add_metric([counted["kind"]], counted["open"])
    webhooks = await ledgers.totals(services.postgres)
    accepted = CounterMetricFamily("fleetgate_deliveries_accepted", "Events that data connectors took over.")
    accepted.add_metric([], webhooks.accepted)
    ended = CounterMetricFamily(
        "fleetgate_deliveries_ended", "What became of the events that data connectors took over.", labels=["outcome"]
    )
    for outcome in ("delivered", "expired", "dropped", "superseded"):
        ended.add_metric([outcome], getattr(webhooks, outcome))
    gauges = [
        ("fleetgate_deliveries_pending", "Events taken over that wait, with no end yet.", webhooks.pending),
        (
            "fleetgate_deliveries_backlog",
            "Events that lie ahead of active connectors, as dispatchers know it.",
            webhooks.backlog,
        ),
        (
            "fleetgate_connector_slots_unserved",
            "Slots of connectors that no dispatcher owns: nobody knows what is ahead of their connectors.",
            webhooks.unserved,
        ),
        (
            "fleetgate_deliveries_oldest_s",
            "Age of the oldest event still owed to a connector.",
            webhooks.oldest_pending_s,
        ),
        ("fleetgate_connectors_active", "Data connectors that are sent to.", webhooks.active),
        ("fleetgate_connectors_failing", "Of those, the ones whose last attempts failed.", webhooks.failing),
        ("fleetgate_cloud_connectors_active", "Cloud connectors that import.", row["importing"]),
        ("fleetgate_cloud_connectors_error", "Cloud connectors that people must look at.", row["stuck"]),
        ("fleetgate_cloud_connectors_held", "Of those, the ones that hold a list to confirm.", row["held"]),
        ("fleetgate_outbox_events", "Life-cycle events that wait for the log.", row["outbox"]),
        ("fleetgate_replies_deferred", "Devices whose prepared reply waits to be written.", row["replies"]),
    ]
    return [
        *stored,
        accepted,
        ended,
        incidents,
        *(GaugeMetricFamily(name, text, value=value) for name, text, value in gauges),
    ]
