"""A bloated device beside ordinary ones: how long their messages wait until they are stored, with it and without.

The same load of ordinary devices is stored beside nothing, beside devices whose states are as large as they may be and
that tell two of their values a few times a second, and beside devices that send ever new keys, as many as a message
holds. The wait of a message is from its entry in the stream to the end of the transaction that stores it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from statistics import quantiles
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from bench.results import Report
from bench.rig import MASTER_KEY, SHARDS, Rig, open_shards
from schemas import entries, keys, postgres, redis
from schemas.bounds import STATE_KEYS
from schemas.ids import shard_of
from schemas.metrics import Metrics
from schemas.settings import WorkerSettings
from workers.flusher.flusher import Flusher
from workers.postgres_history import PostgresHistory

RATE = 200
"""Messages/s of ordinary devices."""
BLOATED = 20
BLOATED_RATE = 40
SCANNER_RATE = 2
BODY = b'{"status":"online","telemetries":{"n":%d,"cpu":12.5,"mem":44,"disk":81}}'
BLOCK_MS = 50

Bloat = Callable[[int], bytes]


async def run(rig: Rig, report: Report, *, seconds: float) -> None:
    """The p99 of the wait, three times."""
    valkey = rig.valkey("everysec")
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 4)
    client = redis.connect(valkey.url)
    await open_shards(valkey)
    settings = WorkerSettings(postgres_dsn=rig.postgres.dsn(), redis_url=valkey.url, master_key=MASTER_KEY)
    metrics = Metrics(CollectorRegistry())
    flusher = Flusher(pool, client, metrics, settings, PostgresHistory(pool, client, metrics))
    for shard in range(SHARDS):
        await flusher.open(shard)
    bloated, ordinary = rig.device_ids[:BLOATED], rig.device_ids[BLOATED:]
    load = _Load(client, flusher)
    for device_id in bloated:
        await load.add(device_id, _whole(0))
    await load.measure(ordinary, [], None, 0, seconds / 2)  # to warm up
    alone = await load.measure(ordinary, [], None, 0, seconds)
    report.add("neighbour", "p99 of the wait, ordinary devices alone", f"{alone * 1e3:,.1f} ms", seconds=alone)
    for name, rate, bloat in (
        ("devices with full states, two values at a time", BLOATED_RATE, _tiny),
        ("devices with ever new keys", SCANNER_RATE, _whole),
    ):
        beside = await load.measure(ordinary, bloated, bloat, rate, seconds)
        size = await pool.fetchval(
            """SELECT max(octet_length(telemetries::text) + coalesce(octet_length(settled::text), 0))
                 FROM device_state WHERE shard = ANY($1::smallint[])""",
            list(range(SHARDS)),
        )
        report.add("neighbour", f"beside {name}", f"{beside * 1e3:,.1f} ms", seconds=beside, largest_state=size)
        report.ratio(f"neighbour_of_{bloat.__name__.strip('_')}", beside / alone, at_most=1.5)
    await client.aclose()
    await pool.close()


def _tiny(number: int) -> bytes:
    return msgspec.json.encode({"telemetries": {"key 0 1": number, "key 0 2": number}})


def _whole(number: int) -> bytes:
    return msgspec.json.encode(
        {"telemetries": {f"key {number} {n}": f"{'x' * 40}{n}" for n in range(STATE_KEYS.default)}}
    )


class _Load:
    """Adds entries to the streams, and sees when they are stored."""

    def __init__(self, client: redis.Redis, flusher: Flusher) -> None:
        self._client = client
        self._flusher = flusher
        self._added: list[deque[tuple[tuple[int, ...], float | None]]] = [deque() for _ in range(SHARDS)]
        self._waits: list[float] = []
        self._number = 0

    async def add(self, device_id: str, body: bytes, *, timed: bool = False) -> None:
        """One message, in an entry of its own."""
        name = device_id.encode()
        shard = shard_of(name, SHARDS)
        began = time.perf_counter()
        entry = entries.pack(time.time_ns() // 1000, [name, b"00", body])
        entry_id: Any = await self._client.xadd(keys.ingest(shard), {entries.FIELD: entry})
        self._added[shard].append((_parts(entry_id.decode()), began if timed else None))

    async def measure(
        self, ordinary: list[str], bloated: list[str], bloat: Bloat | None, rate: float, seconds: float
    ) -> float:
        """The p99 of the wait, in seconds."""
        self._waits.clear()
        done = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(self._store(done))
            senders = [self._send(ordinary, RATE, seconds, lambda n: BODY % n, timed=True)]
            if bloat is not None:
                senders.append(self._send(bloated, rate, seconds, bloat))
            await asyncio.gather(*senders)
            done.set()
            await storing
        return quantiles(self._waits, n=100)[98]

    async def _send(
        self, device_ids: list[str], rate: float, seconds: float, body: Bloat, *, timed: bool = False
    ) -> None:
        began = time.perf_counter()
        for number in range(max(4, int(rate * seconds))):
            self._number += 1
            await asyncio.sleep(began + number / rate - time.perf_counter())
            await self.add(device_ids[number % len(device_ids)], body(self._number), timed=timed)

    async def _store(self, done: asyncio.Event) -> None:
        while not done.is_set() or any(self._added):
            await self._flusher.flush(block_ms=BLOCK_MS)
            now = time.perf_counter()
            for shard, added in enumerate(self._added):
                offset = _parts(self._flusher.positions[shard].offset)
                while added and added[0][0] <= offset:
                    _, began = added.popleft()
                    if began is not None:
                        self._waits.append(now - began)


def _parts(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))
