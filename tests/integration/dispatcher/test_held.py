"""A connector whose row somebody holds: a long transaction of its owner, by hand or of a program, stops only itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from webhooks import MovedClock, Project, Receiver, answers, until

from schemas import postgres
from workers.dispatcher.retry import CAP_S


@asynccontextmanager
async def held(project: Project, connector: str) -> AsyncIterator[None]:
    """The connector's row is locked meanwhile."""
    connection = await postgres.connect(project.dsn, "holder")
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM data_connectors WHERE id = $1 FOR UPDATE", connector)
            yield
    finally:
        await connection.close()


async def test_a_connector_that_is_held_stops_no_other(project: Project, receiver: Receiver) -> None:
    """The neighbour goes on; the held one sends what it may have untold, and when it is free all is told, once."""
    connector = await project.connector(f"{receiver.url}/held")
    neighbour = await project.connector(f"{receiver.url}/neighbour")
    async with project.dispatcher(connector_deliveries_max=4):
        await project.happen(1)
        await until(lambda: project.settled(connector))
        async with held(project, connector):
            for _ in range(5):
                await project.happen(20)
                await until(lambda: project.settled(neighbour))
            assert (await project.ledger(connector)).delivered == 1
            assert len([r for r in receiver.received if r.path == "/hook/held"]) <= 1 + 4
        await until(lambda: project.settled(connector))
    assert (await project.ledger(connector)).delivered == 101
    got = [r.event_id for r in receiver.received if r.path == "/hook/held"]
    assert len(got) == len(set(got)) == 101


async def test_failures_of_a_held_connector_wait_when_it_is_free(project: Project, receiver: Receiver) -> None:
    """Nothing that waits to be told is lost, whatever it is: failures, retries, ends of retries."""
    clock = MovedClock()
    connector = await project.connector(f"{receiver.url}/held")
    neighbour = await project.connector(f"{receiver.url}/neighbour")
    receiver.behave = answers(400)
    async with project.dispatcher(clock):
        await project.happen(5)
        for each in (connector, neighbour):
            await until(lambda c=each: _pending(project, c, 5))
        async with held(project, connector):
            clock.move(seconds=CAP_S)
            await project.happen(5)
            await until(lambda: _pending(project, neighbour, 10))
            clock.move(seconds=CAP_S)
            receiver.behave = answers(200)
            await until(lambda: project.settled(neighbour))
        clock.move(seconds=CAP_S)
        ledger = await until(lambda: project.settled(connector))
    assert ledger.delivered == 10


async def test_a_held_connector_is_taken_over_when_it_is_free(project: Project, receiver: Receiver) -> None:
    """And meanwhile the others of its slot are."""
    connector = await project.connector(f"{receiver.url}/held")
    neighbour = await project.connector(f"{receiver.url}/neighbour")
    async with held(project, connector), project.dispatcher() as dispatcher:
        await project.happen(3)
        await until(lambda: project.settled(neighbour))
        assert connector not in dispatcher.roster.connectors
    async with project.dispatcher():
        await until(lambda: project.settled(connector))


async def _pending(project: Project, connector: str, count: int) -> bool:
    return (await project.ledger(connector)).pending == count
