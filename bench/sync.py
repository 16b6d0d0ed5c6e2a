"""A sync of a cloud connector: a million devices of which one in a hundred changed, against plain SQL doing the same.

Plain SQL copies the list into a table, finds what is new, changed and gone by set differences, and writes that down in
one table. Ours does all of a sync but the vendor's HTTP: pages of JSON decoded and mapped by a manifest, copied,
checked for duplicates, compared, and applied with devices, spaces and events in one transaction.

Both are given the same pages; making them is not timed. Memory is what this process holds more at the end of a sync
than before it.
"""

import asyncio
import gc
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median
from typing import Any

import msgspec
import psutil

from bench import load
from bench.results import Report
from bench.rig import SHARDS, Rig, until_ready
from schemas import ids, postgres
from schemas.manifests.manifest import Device
from schemas.postgres import Connection
from workers.__main__ import GC_THRESHOLDS
from workers.importer import comparing, diff, imported, loading
from workers.importer.devices import Listed, Mapper, Skipped
from workers.importer.diff import Target

PAGE = 5_000
STATEMENT_S = 600.0
INGEST_RATE = 5_000
_ITEM = (
    '{"id":"%d","name":"%s","serial":"SN%07d","mac":"02:00:00:%02x:%02x:%02x",'
    '"model":"M1","firmware":"1.2.3","site":"S%d"}'
)
_MANIFEST = Device(id="id", name="name", serial="serial", mac="mac", model="model", firmware="firmware", space="site")


def _names(devices: int, turn: int) -> Iterator[tuple[int, str]]:
    """The list at one of its turns: from each to the next about one in a hundred is new, gone or renamed."""
    for n in range(devices):
        if (n + turn) % 333 != 0:
            yield n, f"Device {n}{chr(39) * ((n + turn) % 500 < 2)}"


def _pages(devices: int, turn: int) -> Iterator[list[tuple[int, str]]]:
    page: list[tuple[int, str]] = []
    for item in _names(devices, turn):
        page.append(item)
        if len(page) == PAGE:
            yield page
            page = []
    yield page


def _json(page: list[tuple[int, str]]) -> bytes:
    rows = (_ITEM % (n, name, n, n >> 16 & 255, n >> 8 & 255, n & 255, n % 50) for n, name in page)
    return f'{{"devices":[{",".join(rows)}]}}'.encode()


def _records(page: list[tuple[int, str]]) -> list[Listed]:
    return [
        Listed(
            str(n),
            name,
            f"SN{n:07}",
            f"02:00:00:{n >> 16 & 255:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",
            "M1",
            "1.2.3",
            f"S{n % 50}",
        )
        for n, name in page
    ]


async def run(rig: Rig, report: Report, *, rounds: int, devices: int) -> None:
    """Seconds of both, and what a sync costs ingest beside it."""
    gc.set_threshold(*GC_THRESHOLDS)  # as workers do
    connection = await postgres.connect(rig.postgres.dsn(), "bench")
    target = await _target(connection)
    report.progress(f"importing {devices:,} devices")
    first_s, _ = await _ours(connection, target, devices, 0)
    await _plain_tables(connection)
    await _plain(connection, devices, 0)
    await connection.execute("VACUUM ANALYZE", timeout=STATEMENT_S)
    ours: list[float] = []
    plain: list[float] = []
    held_mb: list[float] = []
    for turn in range(1, rounds + 1):
        plain.append(await _plain(connection, devices, turn))
        seconds, megabytes = await _ours(connection, target, devices, turn)
        ours.append(seconds)
        held_mb.append(megabytes)
        report.progress(f"sync: round {turn} of {rounds}")
    await connection.close()
    report.add("sync", f"first import of {devices:,} devices", f"{first_s:.1f} s", seconds=first_s)
    report.add("sync", f"{devices:,} devices, 1 in 100 changed: plain SQL", f"{median(plain):.1f} s", all=plain)
    report.add("sync", f"{devices:,} devices, 1 in 100 changed: ours", f"{median(ours):.1f} s", all=ours)
    report.ratio("sync_vs_plain_sql", median(ours) / median(plain), at_most=2.0)
    report.ratio("sync_memory_mb", max(held_mb), at_most=64)
    await _beside_ingest(rig, report, target, devices)


async def _beside_ingest(rig: Rig, report: Report, target: Target, devices: int) -> None:
    """Messages a second that are taken at a rate well below the limit, alone and while one sync follows another."""
    valkey = rig.valkey("everysec")
    url, edge = rig.edge(valkey)
    worker = rig.worker(valkey)
    await until_ready(url)
    told: dict[bool, Any] = {}
    for syncing in (False, True):
        stop = asyncio.Event()

        async def sync(stop: asyncio.Event = stop) -> None:
            connection = await postgres.connect(rig.postgres.dsn(), "bench")
            turn = 100
            while not stop.is_set():
                turn += 1
                await _ours(connection, target, devices, turn, pause_s=0.001)
            await connection.close()

        task = asyncio.create_task(sync()) if syncing else None
        path = rig.folder / "devices.txt"
        told[syncing] = await load.generate(url, path, connections=64, seconds=15, rate=INGEST_RATE)
        stop.set()
        if task is not None:
            await task
    edge.stop()
    worker.stop()
    alone, beside = told[False], told[True]
    report.add("sync", f"ingest at {INGEST_RATE:,}/s, alone", f"{alone.rate:,.0f}/s, p50 {alone.p50_ms:.1f} ms")
    report.add("sync", "ingest, while one sync follows another", f"{beside.rate:,.0f}/s, p50 {beside.p50_ms:.1f} ms")
    report.ratio("ingest_beside_sync", beside.rate / alone.rate, at_least=0.9)


async def _target(connection: Connection) -> Target:
    connector_id = ids.new_xid()
    row = await connection.fetchrow(
        """INSERT INTO cloud_connectors (id, organization_id, project_id, space_id, provider, name, status)
           SELECT $1, p.organization_id, p.id, s.id, 'bench', 'Bench', 'Disabled'
             FROM projects p JOIN spaces s ON s.project_id = p.id LIMIT 1
           RETURNING organization_id, project_id, space_id""",
        connector_id,
    )
    assert row is not None
    model_id = await imported.model_of(connection, row["organization_id"], ids.new_id(), "Bench cloud")
    return Target(connector_id, row["organization_id"], row["project_id"], row["space_id"], model_id, SHARDS)


class _Clock:
    """Time spent in what is measured."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


async def _ours(
    connection: Connection, target: Target, devices: int, turn: int, pause_s: float = 0.0
) -> tuple[float, float]:
    """One sync: seconds, and megabytes held more at its end."""
    clock, mapper = _Clock(), Mapper(_MANIFEST)
    process = psutil.Process()
    before = process.memory_info().rss
    with clock:
        await loading.begin(connection)
    for page in _pages(devices, turn):
        answer = _json(page)
        await asyncio.sleep(pause_s)
        with clock:
            found = [mapper.read(item) for item in msgspec.json.decode(answer)["devices"]]
            await loading.load(connection, [device for device in found if not isinstance(device, Skipped)])
    with clock:
        await loading.end_of_list(connection)
        async with connection.transaction():
            changes = await comparing.compare(connection, target.connector_id)
            await diff.apply(connection, target, changes, datetime.now(UTC))
    held = (process.memory_info().rss - before) / 1e6
    assert changes.found > 0.99 * devices
    # The events are for flushers to take; here nobody does.
    await connection.execute("TRUNCATE event_outbox, reply_queue", timeout=STATEMENT_S)
    return clock.seconds, held


async def _plain_tables(connection: Connection) -> None:
    await connection.execute(
        """CREATE TABLE known (vendor_id text PRIMARY KEY, name text, serial text, mac text, model text, firmware text,
                               space text, gone boolean NOT NULL DEFAULT false)"""
    )


async def _plain(connection: Connection, devices: int, turn: int) -> float:
    """The same by hand: seconds."""
    clock = _Clock()
    with clock:
        await connection.execute("DROP TABLE IF EXISTS pg_temp.incoming")
        await connection.execute(
            """CREATE TEMPORARY TABLE incoming (vendor_id text NOT NULL, name text, serial text, mac text, model text,
                                                firmware text, space text)"""
        )
    for page in _pages(devices, turn):
        records = _records(page)
        with clock:
            await connection.copy_records_to_table("incoming", records=records, timeout=STATEMENT_S)
    statements: list[str] = [
        "ANALYZE incoming",
        """UPDATE known SET gone = true FROM (SELECT vendor_id FROM known WHERE NOT gone
            EXCEPT SELECT vendor_id FROM incoming) g WHERE known.vendor_id = g.vendor_id""",
        """UPDATE known k SET name = i.name, gone = false FROM incoming i
            WHERE i.vendor_id = k.vendor_id AND (k.gone OR (i.name, i.serial, i.mac, i.model, i.firmware)
                  IS DISTINCT FROM (k.name, k.serial, k.mac, k.model, k.firmware))""",
        """INSERT INTO known SELECT i.* FROM incoming i LEFT JOIN known k USING (vendor_id)
            WHERE k.vendor_id IS NULL""",
    ]
    with clock:
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement, timeout=STATEMENT_S)
    return clock.seconds
