"""Long work on connectors' queues: done in slices, resumed where it was, and seen while it goes on."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from webhooks import Project, Receiver, answers, make_project, until

from gateway.refusals import NotFound
from gateway.stores.connectors import connector_queues as queues
from gateway.stores.connectors import data_connectors
from gateway.stores.connectors.connector_queues import Job
from schemas import postgres
from schemas.postgres import Connection
from tests.conftest import SHARDS
from workers.dispatcher import slices, store

ALL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
async def connection(project: Project) -> AsyncIterator[Connection]:
    """That of a dispatcher's jobs."""
    made = await postgres.connect(project.dsn, "jobs")
    yield made
    await made.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a few events, rows, devices."""
    monkeypatch.setattr(slices, "EVENTS", 8)
    monkeypatch.setattr(slices, "EVENTS_OF_SHARD_MIN", 4)
    monkeypatch.setattr(slices, "ROWS", 4)
    monkeypatch.setattr(slices, "DEVICES", 3)


async def replay(project: Project, connector: str, start: datetime, end: datetime) -> None:
    async with project.pool.acquire() as connection, connection.transaction():
        held = await data_connectors.lock(connection, project.project_id, connector)
        await queues.replay(connection, SHARDS, held, start, end)


async def synchronize(project: Project, connector: str) -> None:
    async with project.pool.acquire() as connection, connection.transaction():
        await queues.synchronize(connection, await data_connectors.lock(connection, project.project_id, connector))


async def job(project: Project, connector: str) -> Job:
    """The newest."""
    return (await queues.jobs(project.pool, connector))[0]


async def slice_of(connection: Connection, connector: str) -> slices.Slice:
    """The next slice of a connector's only job."""
    ((job_id, _),) = [each for each in await store.jobs(connection) if each[1] == connector]
    return await slices.work(connection, job_id, connector)


async def waiting(project: Project, connector: str) -> list[tuple[int, int]]:
    """The places of what waits, sorted."""
    rows = await project.pool.fetch("SELECT shard, seq FROM waiting_deliveries WHERE connector_id = $1", connector)
    return sorted((row["shard"], row["seq"]) for row in rows)


async def places(project: Project, where: str = "true", *arguments: Any) -> list[tuple[int, int]]:
    """The places of the project's events, sorted."""
    rows = await project.pool.fetch(
        f"SELECT shard, seq FROM events WHERE project_id = $1 AND {where}", project.project_id, *arguments
    )
    return sorted((row["shard"], row["seq"]) for row in rows)


async def report(project: Project, device: UUID, event_type: str, seq: int) -> None:
    """As the flusher remembers the newest event of a type, or of messages."""
    shard = await project.pool.fetchval("SELECT shard FROM devices WHERE id = $1", device)
    if event_type == "telemetry":
        await project.pool.execute(
            """INSERT INTO device_state (shard, device_id, last_seen_at, message_seq, message_stored_at)
               VALUES ($1, $2, now(), $3, now())""",
            shard,
            device,
            seq,
        )
        return
    await project.pool.execute(
        """INSERT INTO device_reported (shard, device_id, type, ts, seq, stored_at, data)
           VALUES ($1, $2, $3, now(), $4, now(), '{}')""",
        shard,
        device,
        event_type,
        seq,
    )


@pytest.mark.usefixtures("small")
async def test_a_replay_owes_the_events_of_its_range_types_and_project_a_slice_at_a_time(
    project: Project, connection: Connection
) -> None:
    """Each once, and as many as the job and the ledger tell, after every slice."""
    # The other's events come first where nothing tells them apart: they are read in the order of projects.
    project, other = await make_project(project.pool, project.dsn), project
    at = datetime.now(UTC)
    for minutes in (-3, -2, -1):
        await project.happen(40, stored_at=at + timedelta(minutes=minutes))
        await project.happen(10, "temperature", stored_at=at + timedelta(minutes=minutes))
        await other.happen(40, stored_at=at + timedelta(minutes=minutes))
    connector = await project.connector("http://x", event_types=["touch"])
    start, end = at - timedelta(minutes=2), at - timedelta(minutes=1)
    expected = await places(project, "type = 'touch' AND ts >= $2 AND ts < $3", start, end)
    await replay(project, connector, start, end)
    await project.happen(40, stored_at=start)
    progress = [(await job(project, connector)).passed]
    while not (await slice_of(connection, connector)).ended:
        now = await job(project, connector)
        progress.append(now.passed)
        assert now.events == (await project.ledger(connector)).pending
        assert now.passed <= now.total
    assert len(expected) == 40
    assert await waiting(project, connector) == expected
    assert progress == sorted(set(progress))
    assert len(progress) > 5
    assert (await job(project, connector)).state == "DONE"
    assert await store.jobs(connection) == []


@pytest.mark.usefixtures("small")
async def test_a_job_goes_on_where_a_process_that_died_has_left_it(project: Project, connection: Connection) -> None:
    """A slice is there whole or not at all."""
    await project.happen(60)
    connector = await project.connector("http://x")
    await replay(project, connector, *ALL)
    for _ in range(3):
        await slice_of(connection, connector)
        dying = await postgres.connect(project.dsn, "dying")
        await dying.transaction().start()
        await slice_of(dying, connector)
        dying.terminate()
        await until(lambda: _free(project, connector))
    while not (await slice_of(connection, connector)).ended:
        pass
    assert await waiting(project, connector) == await places(project)
    assert (await project.ledger(connector)).accepted == 60


async def _free(project: Project, connector: str) -> Any:
    return await project.pool.fetchval(
        "SELECT true FROM data_connectors WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED", connector
    )


@pytest.mark.usefixtures("small")
async def test_two_who_work_on_a_job_do_it_once(project: Project, connection: Connection) -> None:
    """A worker may not have noticed yet that it lost a slot."""
    await project.happen(60)
    connector = await project.connector("http://x")
    await replay(project, connector, *ALL)
    ((job_id, _),) = await store.jobs(connection)
    second = await postgres.connect(project.dsn, "second")
    while (await job(project, connector)).state == "RUNNING":
        await asyncio.gather(*(slices.work(each, job_id, connector) for each in (connection, second)))
    await second.close()
    assert await waiting(project, connector) == await places(project)


@pytest.mark.usefixtures("small")
async def test_a_synchronization_owes_the_newest_of_each_type_and_of_messages(
    project: Project, connection: Connection
) -> None:
    """Of the devices that are in the project now, a few at a time; no event of the log is looked at."""
    other = await make_project(project.pool, project.dsn)
    for n, device in enumerate([*project.devices, *other.devices]):
        await report(project, device, "touch", 100 + n)
        await report(project, device, "configChanged", 200 + n)
        await report(project, device, "telemetry", 300 + n)
    await project.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", project.devices[0])
    connector = await project.connector("http://x")
    messages = await project.connector("http://y", event_types=["telemetry", "configChanged"])
    for each in (connector, messages):
        await synchronize(project, each)
        done = 1
        while not (await slice_of(connection, each)).ended:
            done += 1
        assert done == 3
    numbers = range(1, len(project.devices))
    assert sorted(seq for _, seq in await waiting(project, connector)) == [
        first + n for first in (100, 200, 300) for n in numbers
    ]
    assert sorted(seq for _, seq in await waiting(project, messages)) == [
        first + n for first in (200, 300) for n in numbers
    ]
    found = await job(project, connector)
    assert (found.events, found.passed, found.total, found.state) == (21, 7, 7, "DONE")


@pytest.mark.usefixtures("small")
async def test_a_second_synchronization_takes_the_place_of_the_first(project: Project, connection: Connection) -> None:
    """What the first still owes is superseded, and it goes no further."""
    for device in project.devices:
        await report(project, device, "touch", 1)
    connector = await project.connector("http://x")
    await synchronize(project, connector)
    await slice_of(connection, connector)
    await synchronize(project, connector)
    assert [each.state for each in await queues.jobs(project.pool, connector)] == ["RUNNING", "SUPERSEDED"]
    await project.finish_jobs()
    ledger = await project.ledger(connector)
    assert (ledger.accepted, ledger.pending, ledger.superseded) == (11, 8, 3)


async def test_a_replay_goes_at_the_pace_of_the_receiver(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With enough rows due it waits, so that no queue grows by millions; what failed and waits stops it not."""
    monkeypatch.setattr(slices, "DUE_MAX", 20)
    monkeypatch.setattr(slices, "EVENTS_OF_SHARD_MIN", 10)
    monkeypatch.setattr(slices, "EVENTS", 10)
    happened = await project.happen(200)
    connector = await project.connector(receiver.url)
    await replay(project, connector, *ALL)
    connection = await postgres.connect(project.dsn, "jobs")
    while (await slice_of(connection, connector)).worked:
        pass
    await connection.close()
    assert 20 <= len(await waiting(project, connector)) < 20 + 10 * SHARDS
    monkeypatch.setattr("workers.dispatcher.jobs.RECHECK_S", 0.05)
    receiver.behave = answers(400)
    async with project.dispatcher(chance=lambda: 0.99):
        await until(lambda: len(set(receiver.event_ids)) == 200)
        receiver.behave = answers(200)
        await until(lambda: project.settled(connector))
    assert set(receiver.event_ids) == set(happened)


@pytest.mark.usefixtures("small")
async def test_disabling_moves_the_position_at_once_and_counts_afterwards(
    project: Project, connection: Connection
) -> None:
    """In slices, each adding up: what lay ahead and was wanted, and what waited; a replay that was under way ends."""
    other = await make_project(project.pool, project.dsn)
    connector = await project.connector("http://x", event_types=["touch"])
    await project.happen(40)
    await project.happen(15, "temperature")
    await other.happen(30)
    await replay(project, connector, *ALL)
    await slice_of(connection, connector)
    await slice_of(connection, connector)
    owed = (await project.ledger(connector)).pending
    assert owed
    await project.change(connector, status="USER_DISABLED")
    heads = await project.pool.fetch("SELECT shard, next_seq FROM shards WHERE shard = ANY($1)", list(range(SHARDS)))
    positions = await project.pool.fetch(
        "SELECT shard, seq FROM connector_positions WHERE connector_id = $1", connector
    )
    assert sorted(map(tuple, positions)) == sorted(map(tuple, heads))
    await project.happen(20)
    dropped = [0]
    while not (await slice_of(connection, connector)).ended:
        dropped.append((await project.ledger(connector)).dropped)
    ledger = await project.ledger(connector)
    assert (ledger.accepted, ledger.dropped, ledger.pending) == (40 + owed, 40 + owed, 0)
    assert len(dropped) > 5
    assert max(after - before for before, after in itertools.pairwise(dropped)) <= 4 * SHARDS
    assert [each.kind for each in await queues.jobs(project.pool, connector)] == ["drop", "replay"]
    assert [each.state for each in await queues.jobs(project.pool, connector)] == ["DONE", "CANCELLED"]


async def test_what_is_dropped_is_not_sent_though_the_connector_is_active_again(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that waited before are void; what is owed since is sent, and both are counted."""
    monkeypatch.setattr(slices, "ROWS", 5)
    await project.happen(30)
    connector = await project.connector(receiver.url)
    await replay(project, connector, *ALL)
    await project.finish_jobs()
    await project.change(connector, status="USER_DISABLED")
    await project.change(connector, status="ACTIVE")
    fresh = await project.happen(1, "temperature")
    await replay(project, connector, datetime.now(UTC), ALL[1])
    async with project.dispatcher():
        await until(lambda: project.settled(connector))
        await until(lambda: _is_over(project, connector))
    assert receiver.event_ids == fresh
    ledger = await project.ledger(connector)
    assert (ledger.accepted, ledger.delivered, ledger.dropped) == (31, 1, 30)


@pytest.mark.parametrize("status", ["ACTIVE", "USER_DISABLED"])
@pytest.mark.parametrize("of_project", [False, True])
async def test_a_deleted_connector_goes_at_once_and_what_it_owed_in_slices(
    project: Project, connection: Connection, small: None, status: str, of_project: bool
) -> None:
    """Also with its project: nobody finds it, its secrets are gone, and no slice takes more than its rows."""
    connector = await project.connector("https://receiver.example/", secret="s" * 32)
    await project.happen(10)
    await replay(project, connector, *ALL)
    while await store.jobs(connection):
        await slice_of(connection, connector)
    await project.pool.execute("UPDATE data_connectors SET status = $2 WHERE id = $1", connector, status)
    if of_project:
        await project.pool.execute("DELETE FROM devices WHERE project_id = $1", project.project_id)
        await project.pool.execute("DELETE FROM spaces WHERE project_id = $1", project.project_id)
        await project.pool.execute("DELETE FROM projects WHERE id = $1", project.project_id)
    else:
        await data_connectors.delete(project.pool, connector)
    with pytest.raises(NotFound):
        await data_connectors.read(project.pool, project.project_id, connector)
    row = await project.row(connector)
    assert (row["status"], row["secret"], row["headers"], row["url"]) == ("USER_DISABLED", b"", b"", "")
    left = [len(await waiting(project, connector))]
    assert left == [10]
    while found := [each for each in await store.jobs(connection) if each[1] == connector]:
        await slices.work(connection, *found[0])
        left.append(len(await waiting(project, connector)))
        assert left[-2] - left[-1] <= slices.ROWS
    assert left[-1] == 0
    assert await project.row(connector) is None


async def _is_over(project: Project, connector: str) -> bool:
    return all(each.state != "RUNNING" for each in await queues.jobs(project.pool, connector))


async def test_a_job_waits_while_somebody_holds_its_connector(project: Project, connection: Connection) -> None:
    """And so holds up no other's."""
    await project.happen(5)
    connector = await project.connector("http://x")
    await replay(project, connector, *ALL)
    async with project.pool.acquire() as holder, holder.transaction():
        await data_connectors.lock(holder, project.project_id, connector)
        assert not (await slice_of(connection, connector)).worked
    assert (await slice_of(connection, connector)).ended


async def test_the_last_jobs_of_a_connector_are_kept(
    project: Project, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more."""
    monkeypatch.setattr(slices, "JOBS_KEPT", 3)
    connector = await project.connector("http://x")
    for _ in range(6):
        await synchronize(project, connector)
        while not (await slice_of(connection, connector)).ended:
            pass
    assert len(await queues.jobs(project.pool, connector)) == 3
