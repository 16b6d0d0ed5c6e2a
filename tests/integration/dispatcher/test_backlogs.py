"""What lies ahead of connectors: kept while they are behind, cheap to read, and no queue grows without end."""

from typing import Any

import pytest
from webhooks import Project, Receiver, answers, make_project, until

from gateway.stores.connectors import ledgers
from schemas import postgres
from schemas.deliveries import SLOT_LOCKS, SLOTS
from workers.dispatcher import backlogs, reading, surplus


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger looks at few events, and what is kept is kept at once."""
    monkeypatch.setattr(ledgers, "LOOKED", 10)
    monkeypatch.setattr(ledgers, "LOOKED_OF_SHARD_MIN", 2)
    monkeypatch.setattr(backlogs, "INTERVAL_S", 0.05)
    monkeypatch.setattr(backlogs, "LATE_S", 0.05)
    monkeypatch.setattr(backlogs, "COUNTED", 40)


async def backlog(project: Project, connector: str) -> int:
    return (await project.ledger(connector)).backlog


@pytest.mark.usefixtures("few")
async def test_the_backlog_of_a_connector_that_is_behind_is_kept(project: Project, receiver: Receiver) -> None:
    """Counted once, then with every event that comes and goes; of the types that it wants, by every owner anew."""
    other = await make_project(project.pool, project.dsn)
    connector = await project.connector(receiver.url, event_types=["touch"])
    receiver.behave = answers(500)
    async with project.dispatcher():
        await project.happen(8)
        await until(lambda: _pending(project, connector, 8))
        for _ in range(3):
            await project.happen(300)
            await project.happen(50, "temperature")
            await other.happen(50)
        await until(lambda: _owes(project, connector, 908))
        await project.happen(60)
        await until(lambda: _owes(project, connector, 968))
        assert (await ledgers.totals(project.pool)).backlog > 900
    async with project.dispatcher():
        await project.happen(40)
        await until(lambda: _owes(project, connector, 1008))
        receiver.behave = answers(200)
        await project.change(connector, url=f"{receiver.url}/again")
        await until(lambda: project.settled(connector))
        await until(lambda: _is_kept(project, connector, 0))
    assert (await ledgers.totals(project.pool)).oldest_pending_s == 0
    assert (await project.row(connector))["owed_since"] is None


async def _pending(project: Project, connector: str, count: int) -> bool:
    return (await project.ledger(connector)).pending == count


async def _owes(project: Project, connector: str, count: int) -> bool:
    """Ahead, or tried by a probe and waiting."""
    ledger = await project.ledger(connector)
    return ledger.backlog + ledger.pending == count


async def _is_kept(project: Project, connector: str, count: int) -> bool:
    return (await project.row(connector))["backlog"] == count


@pytest.mark.usefixtures("few")
async def test_of_a_small_backlog_the_ledger_knows_without_a_dispatcher(project: Project) -> None:
    """Of a large one at least what it looked at; the age is that of the oldest that is wanted."""
    connector = await project.connector("http://x", event_types=["touch"])
    await project.happen(3)
    await project.happen(2, "temperature")
    assert await backlog(project, connector) == 3
    first = (await project.ledger(connector)).oldest_pending_s
    assert first > 0
    await project.happen(200)
    assert 3 < await backlog(project, connector) < 203
    await project.pool.execute("UPDATE data_connectors SET backlog = 203")
    found = await project.ledger(connector)
    assert found.backlog == 203
    assert found.oldest_pending_s >= first


async def test_totals_read_what_is_kept_and_who_keeps_it(project: Project) -> None:
    """Of active connectors; the oldest of what waits or lies ahead; slots that nobody serves."""
    ahead = await project.connector("http://x")
    disabled = await project.connector("http://x")
    waiting = await project.connector("http://x")
    await project.pool.execute(
        "UPDATE data_connectors SET backlog = 7, owed_since = now() - interval '1 h' WHERE id = ANY($1)",
        [ahead, disabled],
    )
    await project.change(disabled, status="USER_DISABLED")
    found = await ledgers.totals(project.pool)
    assert (found.backlog, round(found.oldest_pending_s / 60), found.unserved) == (7, 60, SLOTS)
    await project.pool.execute("UPDATE data_connectors SET accepted = 1 WHERE id = $1", waiting)
    await project.pool.execute(
        """INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, owed_since, next_at)
           VALUES ($1, 0, 1, now(), 'failed', now() - interval '2 h', now())""",
        waiting,
    )
    worker = await postgres.connect(project.dsn, "worker")
    for slot in range(3):
        await worker.execute("SELECT pg_advisory_lock($1, $2)", SLOT_LOCKS, slot)
    found = await ledgers.totals(project.pool)
    assert (found.pending, round(found.oldest_pending_s / 60), found.unserved) == (1, 120, SLOTS - 3)
    await worker.close()


@pytest.mark.parametrize("at_once", [1, 100])
async def test_the_tail_gives_every_project_its_events(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """However many projects have connectors."""
    monkeypatch.setattr(reading, "PROJECTS_AT_ONCE", at_once)
    projects = [project, *[await make_project(project.pool, project.dsn) for _ in range(3)]]
    connectors = [await each.connector(f"{receiver.url}/{n}") for n, each in enumerate(projects[:3])]
    async with project.dispatcher():
        happened = [await each.happen(20) for each in projects]
        for connector in connectors:
            await until(lambda c=connector: project.settled(c))
    for n in range(3):
        assert sorted(r.event_id for r in receiver.received if r.path.endswith(f"/{n}")) == sorted(happened[n])


async def test_a_receiver_that_rejects_everything_gathers_so_many_events_and_no_more(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that failed most often are dropped, and counted; the others are sent when it accepts again."""
    monkeypatch.setattr(surplus, "INTERVAL_S", 0.05)
    monkeypatch.setattr(surplus, "ROWS", 7)
    receiver.behave = answers(400)
    connector = await project.connector(receiver.url)
    neighbour = await project.connector(f"{receiver.url}/neighbour")
    async with project.dispatcher(connector_waiting_max=10, chance=lambda: 0.5):
        await project.happen(60)
        ledger = await until(lambda: _dropped(project, connector, 50))
        assert ledger.pending == 10
        await until(lambda: _dropped(project, neighbour, 50))
        receiver.behave = answers(200)
        ledger = await until(lambda: project.settled(connector))
    assert (ledger.accepted, ledger.delivered, ledger.dropped) == (60, 10, 50)


async def _dropped(project: Project, connector: str, count: int) -> Any:
    ledger = await project.ledger(connector)
    return ledger if ledger.dropped == count else None
