"""Closed days of the event log become files: whole, compared, and once, whatever happens in between."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import closed_days
import msgspec
import pytest
from closed_days import Disturbed, archiver, day_before, files_of, listed, rows_of
from owners import Owner
from prometheus_client import CollectorRegistry

from schemas import ids
from schemas.archive import layout, listing
from schemas.archive.files import Files
from schemas.archive.listing import DamagedError, Superseded
from schemas.blobs.folder import FolderStore
from schemas.blobs.store import BlobsFull, Incoming
from schemas.metrics import Metrics
from tests.conftest import SHARDS
from workers.archiver import reading, sorting
from workers.archiver.closing import Closing

STEPS = ("archive copied", "archive written", "archive kept")


class Killed(BaseException):
    """What stands for the end of a process."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Disturbed]:
    made = Disturbed(FolderStore(tmp_path / "files"))
    yield made
    await made.close()


@pytest.fixture
async def day(acme: Owner, globex: Owner) -> datetime:
    """A day that is over, of two projects and a device before it was claimed."""
    day = day_before(3)
    await closed_days.make_day(acme.pool, day)
    for number, project_id in enumerate((acme.project_id, acme.project_id, globex.project_id, None)):
        device_id = await acme.device()
        shard = (await acme.row(device_id))["shard"]
        await closed_days.fill(acme.pool, day, shard, device_id, project_id, 30, 1 + 100 * number)
    return day


async def test_a_closed_day_is_in_files_to_the_letter(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, tmp_path: Path
) -> None:
    """Every event once, in its project's and day's folder, in the order of devices and times, with values beside it."""
    stored = await acme.pool.fetch(
        """SELECT project_id, device_id, ts, seq, shard, type, stored_at, labels::text AS labels, data::text AS data
             FROM events WHERE stored_at >= $1 AND stored_at < $1 + interval '1 day'""",
        day,
    )
    assert await archiver(acme.pool, dsn, store).tidy() == SHARDS
    assert await archiver(acme.pool, dsn, store).tidy() == 0
    found = rows_of(tmp_path / "files")
    assert len(found) == len(stored) == 120
    by_place = {(row["shard"], row["seq"]): row for row in found}
    for row in stored:
        twin = by_place[row["shard"], row["seq"]]
        expected = dict(row) | {"device_id": str(row["device_id"])}
        expected["project_id"] = str(row["project_id"] or "none")
        assert {name: twin[name] for name in expected if name != "project_id"} | {
            "project_id": twin["project"]
        } == expected
        assert str(twin["day"]) == str(day.date())
        assert twin["event_id"] == ids.event_id(int(row["stored_at"].timestamp()), row["shard"], row["seq"])
        told = msgspec.json.decode(row["data"])["telemetry"]
        assert twin["status"] == told["status"]
        assert dict(twin["numbers"]) == {"n": told["telemetries"]["n"], "up": float(told["telemetries"]["up"])}
        assert dict(twin["texts"]) == {"text": told["telemetries"]["text"]}
    for name in files_of(tmp_path / "files"):
        places = [
            (row["device_id"], row["ts"])
            for row in closed_days.pyarrow.parquet.ParquetFile(tmp_path / "files" / name).read().to_pylist()
        ]
        assert places == sorted(places)


async def test_a_large_day_is_read_and_sorted_in_pieces(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its size: pieces of some rows, cut into ranges, make the same files, in order; large events, smaller
    pieces.
    """
    monkeypatch.setattr(reading, "PIECE_ROWS", 7)
    monkeypatch.setattr(reading, "PIECE_BYTES_MAX", 500)
    monkeypatch.setattr(reading, "SAMPLE", 20)
    monkeypatch.setattr(sorting, "RANGE_BYTES", 800)
    monkeypatch.setattr(layout, "ROWS_OF_GROUP", 11)
    stored = await acme.pool.fetch("SELECT shard, seq, data::text FROM events WHERE stored_at >= $1", day)
    assert await archiver(acme.pool, dsn, store).tidy() == SHARDS
    found = rows_of(tmp_path / "files")
    assert sorted((row["shard"], row["seq"], row["data"]) for row in found) == sorted(map(tuple, stored))
    for name in files_of(tmp_path / "files"):
        rows = closed_days.pyarrow.parquet.ParquetFile(tmp_path / "files" / name).read().to_pylist()
        places = [(row["device_id"], row["ts"], row["seq"]) for row in rows]
        assert places == sorted(places)


async def test_how_far_it_is_behind_is_told(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    """While a day is not in files that could have been there for long, and until it is."""
    registry, lags = CollectorRegistry(), list[float | None]()

    def look(_: str) -> None:
        lags.append(registry.get_sample_value("fleetgate_archive_lag_seconds"))

    behind = archiver(acme.pool, dsn, store, Metrics(registry), checkpoint=look)
    await behind.tidy(day + timedelta(days=3, hours=2))
    assert all(lag is not None and 26 * 3600 <= lag < 27 * 3600 for lag in lags)
    assert registry.get_sample_value("fleetgate_archive_lag_seconds") == 0
    assert "archive_behind" in caplog.text


async def test_a_worker_that_is_to_end_does_so_in_the_middle_of_a_day(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, tmp_path: Path
) -> None:
    """However long it rests, and the next one does the day."""
    registry, stop = CollectorRegistry(), asyncio.Event()
    resting = archiver(acme.pool, dsn, store, Metrics(registry), share=1e-9)
    async with asyncio.timeout(30):
        running = asyncio.create_task(resting.run(stop))
        while not registry.get_sample_value("fleetgate_archive_lag_seconds"):
            await asyncio.sleep(0.01)
        stop.set()
        await running
    assert await listing.archived_shards(acme.pool, day.date()) == set()
    await archiver(acme.pool, dsn, store).tidy()
    assert len(rows_of(tmp_path / "files")) == 120


async def test_days_that_are_hot_stay_where_they_are(acme: Owner, dsn: str, store: Disturbed, day: datetime) -> None:
    """Today, and so many days before it as are set."""
    assert await archiver(acme.pool, dsn, store).tidy(day + timedelta(days=2, seconds=-1)) == 0
    assert await archiver(acme.pool, dsn, store).tidy(day + timedelta(days=2)) == SHARDS


@pytest.mark.parametrize("step", STEPS)
async def test_what_a_killed_worker_leaves_another_ends(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, tmp_path: Path, step: str
) -> None:
    """Before files are stored, before they count, and after: every event is there once, in files that count."""

    def die(reached: str) -> None:
        if reached == step:
            raise Killed

    with pytest.raises(Killed):
        await archiver(acme.pool, dsn, store, checkpoint=die).tidy()
    await archiver(acme.pool, dsn, store).tidy()
    assert files_of(tmp_path / "files") == await listed(acme.pool)
    assert len(rows_of(tmp_path / "files")) == 120


async def test_a_store_that_is_full_delays_it_and_loses_nothing(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, told and tried again; what came half is gone then."""

    def half_full(incoming: Incoming) -> Any:
        store.disturbing = full
        return incoming

    def full(_: Incoming) -> Any:
        raise BlobsFull("no space left")

    store.disturbing = half_full
    registry, stop = CollectorRegistry(), asyncio.Event()
    running = asyncio.create_task(archiver(acme.pool, dsn, store, Metrics(registry)).run(stop))
    async with asyncio.timeout(30):
        while not registry.get_sample_value("fleetgate_archive_failures_total", {"cause": "full"}):
            await asyncio.sleep(0.01)
    stop.set()
    await running
    assert "archive_deferred" in caplog.text
    assert await acme.pool.fetchval("SELECT count(*) FROM events") >= 120
    store.disturbing = None
    await archiver(acme.pool, dsn, store).tidy()
    assert files_of(tmp_path / "files") == await listed(acme.pool)
    assert len(rows_of(tmp_path / "files")) == 120


async def test_without_room_for_temporary_files_it_is_tried_again(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk that is full would be; the process goes on."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    registry, stop = CollectorRegistry(), asyncio.Event()
    running = asyncio.create_task(archiver(acme.pool, dsn, store, Metrics(registry)).run(stop))
    async with asyncio.timeout(30):
        while not registry.get_sample_value("fleetgate_archive_failures_total", {"cause": "disk"}):
            await asyncio.sleep(0.01)
    stop.set()
    await running
    assert await listed(acme.pool) == []


async def test_a_file_that_is_not_what_was_written_does_not_count(
    acme: Owner, dsn: str, store: Disturbed, day: datetime
) -> None:
    """One bit is enough."""
    store.disturbing = Flipped
    with pytest.raises(DamagedError):
        await archiver(acme.pool, dsn, store).tidy()
    assert await listed(acme.pool) == []
    assert await acme.pool.fetchval("SELECT count(*) FROM archived_days WHERE rows > 0") == 0


class Flipped:
    """What is put, with one bit of it another."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    @property
    def name(self) -> str:
        return self._incoming.name

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._incoming:
            changed = bytearray(piece)
            changed[len(changed) // 3] ^= 1
            yield bytes(changed)


async def test_two_workers_write_each_day_once(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, tmp_path: Path
) -> None:
    """They share the shards of it."""
    done = await asyncio.gather(*(archiver(acme.pool, dsn, store).tidy() for _ in range(2)))
    assert sum(done) == SHARDS
    assert files_of(tmp_path / "files") == await listed(acme.pool)
    assert len(rows_of(tmp_path / "files")) == 120


async def test_who_lost_a_day_to_another_worker_writes_nothing_that_counts(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, tmp_path: Path
) -> None:
    """Its session ended unnoticed, and so did its lock; the other one's files are the only ones."""
    shard: int = await acme.pool.fetchval("SELECT shard FROM events WHERE stored_at >= $1 AND seq = 1", day)
    files = Files(store)
    other: list[int] = []

    async def rest() -> None:
        if not other:
            other.append(0)
            other.append(await closing(files, nothing).close(day.date(), shard))

    async def nothing() -> None:
        pass

    def closing(files: Files, rest: Callable[[], Any]) -> Closing:
        return Closing(acme.pool, store, files, rest, lambda _: None)

    with pytest.raises(Superseded):
        await closing(files, rest).close(day.date(), shard)
    await archiver(acme.pool, dsn, store).tidy()
    assert other[1] > 0
    assert len(rows_of(tmp_path / "files")) == 120
    assert files_of(tmp_path / "files") == await listed(acme.pool)
    await files.close()


async def test_files_go_with_the_retention(
    acme: Owner, dsn: str, store: Disturbed, day: datetime, tmp_path: Path
) -> None:
    """Files, the folders they were in, and their rows; not before their day is past it."""
    await archiver(acme.pool, dsn, store).tidy()
    await archiver(acme.pool, dsn, store).tidy(day + timedelta(days=31))
    assert len(rows_of(tmp_path / "files")) == 120
    await archiver(acme.pool, dsn, store).tidy(day + timedelta(days=32))
    assert not (tmp_path / "files" / "history").exists()
    assert await acme.pool.fetchval("SELECT count(*) FROM archive_files") == 0
    assert await listing.archived_shards(acme.pool, day.date()) == set()
