"""A day that moves to files, with the processes killed that move it: it is whole at every step, and once in the end."""

import asyncio
from pathlib import Path
from uuid import UUID

import closed_days
import pytest

from schemas import ids, postgres
from tests.conftest import SHARDS
from tests.faults.stack import RECOVERY_S, Stack

MESSAGES = 50
"""Of each device."""


async def fill(stack: Stack) -> int:
    """A day that is over; returns how many events it has."""
    day = closed_days.day_before(3)
    pool = await postgres.create_pool(stack.postgres.dsn(), "faults", 2)
    await closed_days.make_day(pool, day)
    project_id = await pool.fetchval("SELECT id FROM projects")
    for number, device_id in enumerate(stack.devices):
        shard = ids.shard_of(device_id.encode(), SHARDS)
        await closed_days.fill(pool, day, shard, UUID(device_id), project_id, MESSAGES, 1 + 1_000 * number)
    await pool.close()
    return MESSAGES * len(stack.devices)


async def until(stack: Stack, sql: str) -> None:
    async with asyncio.timeout(RECOVERY_S):
        while not await stack.query(sql):
            await asyncio.sleep(0.05)


async def history(stack: Stack) -> list[str]:
    """The events of the day, as its owner reads them."""
    since, until_ = (closed_days.day_before(days).timestamp() for days in (4, 2))
    found: list[str] = []
    page = 1
    while page is not None:
        path = f"/core/v1/organization/devices/histories?from={since:.0f}&to={until_:.0f}&per_page=1000&page={page}"
        status, answer, _ = await stack.call("GET", path)
        assert status == 200, answer
        found += [one["event_id"] for one in answer["items"]]
        page = answer["next_page"]
    return found


async def test_a_day_whose_archivers_are_killed_is_in_files_once_and_read_all_the_time(
    stack: Stack, tmp_path: Path
) -> None:
    """Before its files are stored, before they count, and behind that; then two archive at once, and one drops it."""
    files = {"FLEETGATE_FILE_STORE": str(tmp_path / "files")}
    archiving = files | {
        "FLEETGATE_ARCHIVE": "true",
        "FLEETGATE_ARCHIVE_SHARE": "1",
        "FLEETGATE_WORKER_ROLES": "archiver",
    }
    await stack.edge(**files)
    events = await fill(stack)
    before = await history(stack)
    assert len(before) == events
    for step in ("archive copied", "archive written", "archive kept"):
        dying = await stack.worker("--die-at", step, **archiving)
        assert await dying.ended() == -9
        assert await history(stack) == before
    for _ in range(2):
        await stack.worker(**archiving)
    await until(stack, f"SELECT count(*) = {SHARDS} FROM archived_days")
    assert await history(stack) == before
    await stack.worker(**archiving | {"FLEETGATE_WORKER_ROLES": "upkeep"})
    await until(stack, "SELECT count(*) = 1 FROM moved_days")
    assert await stack.query("SELECT count(*) FROM events") == 0
    assert await history(stack) == before
    await until(stack, "SELECT count(*) = 0 FROM archive_files WHERE NOT kept")
    assert len(closed_days.rows_of(tmp_path / "files")) == events
    assert not [*tmp_path.glob("fleetgate-archive-*")]


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What killed archivers leave there goes with the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
