"""Connectors get events of days that lie in files as all others, and no day goes there that one of them still needs."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from closed_days import Disturbed, archiver, day_before, make_day
from webhooks import MovedClock, Project, Receiver, until

from gateway.stores.connectors import connector_queues as queues
from gateway.stores.connectors import data_connectors
from schemas import ids, postgres
from schemas.blobs.folder import FolderStore
from schemas.blobs.store import BlobsAway
from tests.conftest import SHARDS
from workers.dispatcher import moved, slices
from workers.dispatcher.store import jobs
from workers.janitor import Janitor

ALL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Disturbed]:
    made = Disturbed(FolderStore(tmp_path / "files"))
    yield made
    await made.close()


@pytest.fixture
async def days(project: Project) -> list[str]:
    """Two days that are over, with events of two types; their ids."""
    made = []
    for number in (4, 3):
        await make_day(project.pool, day_before(number))
        made += await project.happen(30, stored_at=day_before(number) + timedelta(hours=1), labels={"name": "Hall"})
        await project.happen(9, "temperature", stored_at=day_before(number) + timedelta(hours=2))
    return made


async def move(project: Project, store: Disturbed) -> list[str]:
    await archiver(project.pool, project.dsn, store).tidy()
    return await Janitor(project.pool, 31, hot_days=2, shards=SHARDS).tidy()


async def replay(project: Project, connector: str) -> None:
    async with project.pool.acquire() as connection, connection.transaction():
        held = await data_connectors.lock(connection, project.project_id, connector)
        await queues.replay(connection, SHARDS, held, *ALL)


async def test_a_replay_of_days_in_files_and_of_hot_ones_brings_each_event_once(
    project: Project, receiver: Receiver, store: Disturbed, days: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the types that the connector wants, whole, with the labels of then; and the job has passed all."""
    monkeypatch.setattr(moved, "ROWS", 7)
    hot = await project.happen(10)
    connector = await project.connector(receiver.url, event_types=["touch"], labels=["name"])
    assert len(await move(project, store)) == 2
    await replay(project, connector)
    async with project.dispatcher(store=store):
        (job,) = await until(lambda: _done(project, connector))
        settled = await until(lambda: project.settled(connector))
    assert receiver.counts == dict.fromkeys([*days, *hot], 1)
    assert (settled.delivered, job.events, job.passed) == (70, 70, job.total)
    told = [msgspec.json.decode(one.body) for one in receiver.received if one.event_id in days]
    assert {one["labels"]["name"] for one in told} == {"Hall"}
    assert {tuple(one["event"]["data"]["touch"]) for one in told} == {("updateTime", "n")}


async def _done(project: Project, connector: str) -> Any:
    jobs = await queues.jobs(project.pool, connector)
    return jobs if all(job.state == "DONE" for job in jobs) else None


async def test_a_synchronization_brings_a_message_of_a_day_in_files(
    project: Project, receiver: Receiver, store: Disturbed, days: list[str]
) -> None:
    """The last one of a device that has been silent since."""
    device, at = project.devices[0], day_before(3) + timedelta(hours=1)
    shard = ids.shard_of(str(device).encode(), SHARDS)
    of_device = "SELECT seq FROM events WHERE device_id = $1 AND stored_at = $2 LIMIT 1"
    seq = await project.pool.fetchval(of_device, device, at)
    await project.pool.execute(
        """INSERT INTO device_state (shard, device_id, last_seen_at, message_seq, message_stored_at)
           VALUES ($1, $2, now(), $3, $4)""",
        *(shard, device, seq, at),
    )
    connector = await project.connector(receiver.url)
    await move(project, store)
    async with project.pool.acquire() as connection, connection.transaction():
        await queues.synchronize(connection, await data_connectors.lock(connection, project.project_id, connector))
    async with project.dispatcher(store=store):
        await until(lambda: _done(project, connector))
        await until(lambda: project.settled(connector))
    assert receiver.event_ids == [ids.event_id(int(at.timestamp()), shard, seq)]


async def test_files_that_are_away_delay_what_lies_there_and_end_nothing(
    project: Project, receiver: Receiver, store: Disturbed, days: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Hot events go out meanwhile; the others do when the store is back, and none of them expired."""
    connector, clock = await project.connector(receiver.url, event_types=["touch"]), MovedClock()
    await move(project, store)
    await replay(project, connector)
    await _queue(project, store)
    store.reading = _away
    async with project.dispatcher(clock, store=store):
        hot = await project.happen(5)
        await until(lambda: set(hot) <= set(receiver.event_ids))
        await until(lambda: "events_deferred" in caplog.text)
        assert set(receiver.event_ids) == set(hot)
        store.reading = None
        clock.move(seconds=60)
        await until(lambda: project.settled(connector))
    assert set(receiver.counts) == {*days, *hot}
    assert (await project.ledger(connector)).expired == 0


def _away() -> None:
    raise BlobsAway("no route to host")


async def _queue(project: Project, store: Disturbed) -> None:
    """Put all that a replay finds into the queue."""
    connection, events = await postgres.connect(project.dsn, "jobs"), moved.MovedEvents(store)
    while running := await jobs(connection):
        for job_id, connector_id in running:
            await slices.work(connection, job_id, connector_id, await events.piece(connection, job_id))
    await events.close()
    await connection.close()


async def test_no_day_is_moved_that_a_connector_or_its_job_has_yet_to_read(
    project: Project, store: Disturbed, days: list[str]
) -> None:
    """Events behind its position, and those that a replay has to find."""
    behind = await project.connector("http://x")
    await project.pool.execute("UPDATE connector_positions SET seq = 1, stored_at = $1", day_before(5))
    assert await move(project, store) == []
    await project.pool.execute("UPDATE connector_positions SET seq = 1000000")
    await replay(project, behind)
    assert await move(project, store) == []
    await project.pool.execute("UPDATE connector_jobs SET state = 'DONE'")
    assert len(await move(project, store)) == 2
