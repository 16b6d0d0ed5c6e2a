"""Disabling, enabling and deleting, with work under way; isolation of connectors from one another."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from webhooks import Project, Receiver, answers, answers_after, hangs, until


class Gate:
    """A receiver's behaviour: requests wait until it opens."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, _request: web.Request, _received: Any) -> web.StreamResponse:
        await self.opened.wait()
        return web.Response()


async def test_disabling_ends_the_work_at_once_and_what_was_owed_is_dropped(
    project: Project, receiver: Receiver
) -> None:
    """In flight, waiting to be tried again, and not yet read: all dropped, counted, and never sent."""
    connector = await project.connector(receiver.url)
    receiver.behave = answers(500)
    async with project.dispatcher(chance=lambda: 0.99) as dispatcher:
        await project.happen(4)
        await until(lambda: len(receiver.received) == 4)
        await until(lambda: _pending(project, connector, 4))
        receiver.behave = gate = Gate()
        await project.happen(100)
        await until(lambda: receiver.under_way)
        await project.change(connector, status="USER_DISABLED")
        sent = len(receiver.received)
        await until(lambda: connector not in dispatcher.roster.connectors, 0.1)
        ledger = await until(lambda: _dropped(project, connector, 104))
        assert (ledger.accepted, ledger.pending, ledger.backlog) == (104, 0, 0)
        gate.opened.set()
        await until(lambda: receiver.under_way == 0)
        await project.happen(50)
        other = await project.connector(receiver.url + "/other")
        await project.happen()
        await until(lambda: project.settled(other))
        assert await project.ledger(connector) == ledger
        got = [r for r in receiver.received if r.path == "/hook"]
        assert len(got) <= sent + 1


async def _dropped(project: Project, connector: str, count: int) -> Any:
    ledger = await project.ledger(connector)
    return ledger if ledger.dropped == count else None


async def _pending(project: Project, connector: str, count: int) -> bool:
    return (await project.ledger(connector)).pending == count


async def test_an_enabled_connector_begins_with_what_happens_from_then_on(project: Project, receiver: Receiver) -> None:
    """Neither what it owed before nor what happened meanwhile is sent, though the dispatcher ran all the time."""
    connector = await project.connector(receiver.url)
    receiver.behave = gate = Gate()
    async with project.dispatcher() as dispatcher:
        old = await project.happen(200)
        await until(lambda: receiver.under_way)
        before = dispatcher.roster.connectors[connector]
        await project.change(connector, status="USER_DISABLED")
        await project.change(connector, status="ACTIVE")
        await until(lambda: before.closed, 0.1)
        began = set(receiver.event_ids)
        gate.opened.set()
        fresh = await project.happen(20)
        await until(lambda: set(fresh) <= set(receiver.event_ids))
        await until(lambda: project.settled(connector))
        ledger = await until(lambda: _dropped(project, connector, 200))
    assert (ledger.accepted, ledger.delivered) == (220, 20)
    assert len(set(receiver.event_ids) & set(old)) <= len(began) + 1


async def test_a_deleted_connector_is_gone_at_once(project: Project, receiver: Receiver) -> None:
    """What is in flight ends unheard; nothing more is sent, and the dispatcher goes on for others."""
    connector = await project.connector(receiver.url)
    receiver.behave = gate = Gate()
    async with project.dispatcher():
        await project.happen(200)
        await until(lambda: receiver.under_way)
        await project.pool.execute("DELETE FROM data_connectors WHERE id = $1", connector)
        other = await project.connector(receiver.url + "/other")
        gate.opened.set()
        await project.happen(10)
        await until(lambda: project.settled(other))
        await until(lambda: receiver.under_way == 0)
    assert len([r for r in receiver.received if r.path == "/hook"]) <= 64
    assert await project.pool.fetchval("SELECT count(*) FROM waiting_deliveries") == 0


@pytest.fixture
async def bad() -> AsyncIterator[Receiver]:
    """Another receiver."""
    async with Receiver() as made:
        yield made


async def test_hanging_endpoints_cost_the_healthy_nothing(project: Project, receiver: Receiver, bad: Receiver) -> None:
    """Twenty that hang and ten that answer, with room for few requests in the process."""
    bad.behave = hangs
    for n in range(20):
        await project.connector(f"{bad.url}/{n}")
    healthy = [await project.connector(f"{receiver.url}/{n}") for n in range(10)]
    async with project.dispatcher(deliveries_max=64, delivery_timeout_s=60):
        for _ in range(5):
            await project.happen(40)
            for connector in healthy:
                await until(lambda c=connector: project.settled(c), 5)
        assert bad.under_way > 0
    assert len(receiver.received) == 2000


async def test_a_limit_of_requests_at_once_holds_from_the_next_attempt(project: Project, receiver: Receiver) -> None:
    """However quick the receiver is; without one there are as many as it takes."""
    receiver.behave = answers_after(0.01)
    connector = await project.connector(receiver.url, in_flight_max=1)
    async with project.dispatcher():
        await project.happen(50)
        await until(lambda: project.settled(connector))
        assert receiver.most_under_way == 1
        await project.change(connector, in_flight_max=None)
        await project.happen(400)
        await until(lambda: receiver.most_under_way > 4)
        await project.change(connector, in_flight_max=2)
        await until(lambda: project.settled(connector))
        receiver.most_under_way = 0
        await project.happen(100)
        await until(lambda: project.settled(connector))
        assert receiver.most_under_way == 2


async def test_one_hanging_request_does_not_hold_up_those_behind_it(project: Project, receiver: Receiver) -> None:
    """Its place is passed: it is set apart, and counted when it ends."""
    connector = await project.connector(receiver.url)
    stuck = str(project.devices[0])
    gate = Gate()

    async def hang_once(request: web.Request, received: Any) -> web.StreamResponse:
        if stuck.encode() in received.body and received.event_id == receiver.event_ids[0]:
            return await gate(request, received)
        return web.Response()

    receiver.behave = hang_once
    async with project.dispatcher(delivery_timeout_s=60, connector_deliveries_max=8):
        await project.happen(1)
        await until(lambda: receiver.under_way)
        await project.happen(500)
        await until(lambda: _delivered(project, connector, 500))
        rows = await project.pool.fetch("SELECT cause FROM waiting_deliveries")
        assert [row["cause"] for row in rows] == ["in_flight"]
        gate.opened.set()
        ledger = await until(lambda: project.settled(connector))
    assert ledger.delivered == 501
    assert len(receiver.received) == 501


async def _delivered(project: Project, connector: str, count: int) -> bool:
    return (await project.ledger(connector)).delivered >= count
