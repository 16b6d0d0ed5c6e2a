"""What is erased on request is gone from both tiers, and nothing else is."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import closed_days
import pytest
from closed_days import Disturbed, archiver, day_before, files_of, listed, rows_of
from owners import Owner

from schemas.archive import erasures
from schemas.blobs.folder import FolderStore
from tests.conftest import SHARDS
from workers.janitor import Janitor

DAYS = (4, 3, 2)
"""Days ago; the first is moved, the second is in both tiers, the third is hot."""
COUNT = 20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Disturbed]:
    made = Disturbed(FolderStore(tmp_path / "files"))
    yield made
    await made.close()


@pytest.fixture
async def devices(acme: Owner, globex: Owner, dsn: str, store: Disturbed) -> list[UUID]:
    """Two of a shard and project, with events of each day, and one of another tenant."""
    made = [await acme.device(), await globex.device()]
    shard = (await acme.row(made[0]))["shard"]
    while len(made) < 3:
        other = await acme.device()
        if (await acme.row(other))["shard"] == shard:
            made.append(other)
    for number, device_id in enumerate(made):
        row = await acme.row(device_id)
        for place, days in enumerate(DAYS):
            day = day_before(days)
            if number == 0:
                await closed_days.make_day(acme.pool, day)
            seq = 1 + 1_000 * number + 100 * place
            await closed_days.fill(acme.pool, day, row["shard"], device_id, row["project_id"], COUNT, seq)
        if number == 0:
            continue
    moved = day_before(DAYS[0]) + timedelta(days=2)
    await archiver(acme.pool, dsn, store).tidy(moved)
    await Janitor(acme.pool, 31, hot_days=2, shards=SHARDS).tidy(moved)
    await archiver(acme.pool, dsn, store).tidy(day_before(DAYS[1]) + timedelta(days=2))
    assert await acme.pool.fetchval("SELECT count(*) FROM moved_days") == 1
    return made


async def left(owner: Owner, tmp_path: Path) -> dict[str, int]:
    """How many events each device has: in files of the moved day, and in Postgres."""
    counts: dict[str, int] = {}
    in_postgres = await owner.pool.fetch("SELECT device_id::text AS device_id FROM events")
    in_files = [row for row in rows_of(tmp_path / "files") if str(row["day"]) == str(day_before(DAYS[0]).date())]
    for row in [*in_postgres, *in_files]:
        counts[row["device_id"]] = counts.get(row["device_id"], 0) + 1
    return counts


async def test_a_devices_history_is_erased_from_both_tiers(
    acme: Owner, dsn: str, store: Disturbed, devices: list[UUID], tmp_path: Path
) -> None:
    """Also from files that hold others' events, which are written anew; those are all there."""
    erased, other, stranger = map(str, devices)
    async with acme.pool.acquire() as connection:
        await erasures.request(connection, device_id=devices[0], project_id=None)
    await archiver(acme.pool, dsn, store).tidy()
    all_days = COUNT * len(DAYS)
    assert await left(acme, tmp_path) == {other: all_days, stranger: all_days}
    assert erased not in {row["device_id"] for row in rows_of(tmp_path / "files")}
    assert files_of(tmp_path / "files") == await listed(acme.pool)
    assert await acme.pool.fetchval("SELECT done_at IS NOT NULL FROM erasures")
    kept = await acme.pool.fetchval(
        "SELECT sum(rows)::int FROM archived_days WHERE day = $1", day_before(DAYS[0]).date()
    )
    assert kept == 2 * COUNT


async def test_a_projects_history_is_erased_from_both_tiers(
    acme: Owner, dsn: str, store: Disturbed, devices: list[UUID], tmp_path: Path
) -> None:
    """Its files go, and the folders that are empty then."""
    async with acme.pool.acquire() as connection:
        await erasures.request(connection, device_id=None, project_id=acme.project_id)
    await archiver(acme.pool, dsn, store).tidy()
    assert await left(acme, tmp_path) == {str(devices[1]): COUNT * len(DAYS)}
    assert not (tmp_path / "files" / "history" / f"project={acme.project_id}").exists()
    assert files_of(tmp_path / "files") == await listed(acme.pool)


async def test_what_comes_after_the_request_stays(
    acme: Owner, dsn: str, store: Disturbed, devices: list[UUID], tmp_path: Path
) -> None:
    """A device that goes on telling begins a new history."""
    async with acme.pool.acquire() as connection:
        await erasures.request(connection, device_id=devices[0], project_id=None)
    await acme.pool.execute("UPDATE erasures SET requested_at = $1", day_before(DAYS[2]) + timedelta(minutes=5))
    await archiver(acme.pool, dsn, store).tidy()
    assert (await left(acme, tmp_path))[str(devices[0])] == COUNT - 5
