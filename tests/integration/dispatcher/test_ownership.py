"""Several dispatchers: connectors are shared, handed over, and never told of by two."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from webhooks import Project, Receiver, answers_after, until

from schemas.deliveries import SLOTS
from workers.dispatcher.dispatcher import Dispatcher
from workers.shares import Shares

LOCKS = 7


async def test_workers_share_the_connectors_and_hand_them_over_without_losing(
    project: Project, receiver: Receiver
) -> None:
    """One, then two, then the other one alone, with events all the time: each is delivered, and counted once.

    One that was answered but not yet committed when its owner's time to hand over was up is sent again.
    """
    connectors = [await project.connector(f"{receiver.url}/{n}") for n in range(12)]
    receiver.behave = answers_after(0.02)
    happened: list[str] = []
    async with two_workers(project) as (first, second):
        first.begin()
        await until(lambda: len(first.connectors) == 12)
        happened += await project.happen(20)
        second.begin()
        while not second.connectors:
            happened += await project.happen(5)
            await asyncio.sleep(0.02)
        assert not first.connectors & second.connectors
        first.stop.set()
        while len(second.connectors) < 12:
            happened += await project.happen(5)
            await asyncio.sleep(0.02)
        ledgers = [await until(lambda c=connector: project.settled(c)) for connector in connectors]
    for n in range(12):
        assert {r.event_id for r in receiver.received if r.path == f"/hook/{n}"} == set(happened)
    assert {(ledger.accepted, ledger.delivered) for ledger in ledgers} == {(len(happened), len(happened))}


async def test_connectors_that_owe_nothing_are_handed_over_without_repeating(
    project: Project, receiver: Receiver
) -> None:
    """Their positions are committed, so that the next owner begins behind all that was answered."""
    connectors = [await project.connector(f"{receiver.url}/{n}") for n in range(12)]
    async with two_workers(project) as (first, second):
        first.begin()
        await until(lambda: len(first.connectors) == 12)
        happened = await project.happen(20)
        for connector in connectors:
            await until(lambda c=connector: project.settled(c))
        second.begin()
        await until(lambda: second.connectors)
        first.stop.set()
        await until(lambda: len(second.connectors) == 12)
        happened += await project.happen(20)
        for connector in connectors:
            await until(lambda c=connector: project.settled(c))
    assert receiver.counts == dict.fromkeys(happened, 12)


class SharingWorker:
    """A dispatcher that takes its share of the slots."""

    def __init__(self, project: Project, dispatcher: Dispatcher) -> None:
        self.stop = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self._shares = Shares(project.dsn, "dispatcher", LOCKS, SLOTS, dispatcher.own)
        self._roster = dispatcher.roster

    @property
    def connectors(self) -> set[str]:
        """The connectors that it serves."""
        return set(self._roster.connectors)

    def begin(self) -> None:
        """Take slots until `stop` is set."""
        self.tasks.append(asyncio.create_task(self._shares.run(self.stop)))


@asynccontextmanager
async def two_workers(project: Project) -> AsyncIterator[tuple[SharingWorker, SharingWorker]]:
    """Two that have no slots yet; they end also when the test fails."""
    async with project.dispatcher(owning=False) as one, project.dispatcher(owning=False) as other:
        workers = SharingWorker(project, one), SharingWorker(project, other)
        try:
            yield workers
        finally:
            for worker in workers:
                worker.stop.set()
            await asyncio.gather(*workers[0].tasks, *workers[1].tasks)


async def test_two_that_both_believe_to_be_the_owner_still_count_each_event_once(
    project: Project, receiver: Receiver
) -> None:
    """A worker that lost its slot unnoticed sends some events again; the ledger does not count them again."""
    connector = await project.connector(receiver.url)
    happened: set[str] = set()
    async with project.dispatcher(), project.dispatcher():
        for _ in range(10):
            fresh = set(await project.happen(50))
            happened |= fresh
            await until(lambda fresh=fresh: fresh <= set(receiver.event_ids))
        ledger = await until(lambda: project.settled(connector))
    assert (ledger.accepted, ledger.delivered) == (500, 500)
    assert set(receiver.event_ids) == happened


async def test_what_was_in_flight_with_a_dead_owner_is_sent_again(project: Project, receiver: Receiver) -> None:
    """Rows set apart by a dispatcher that is gone are due at once for the next one, not when their time is up."""
    connector = await project.connector(receiver.url)
    [event_id] = await project.happen()
    await project.pool.execute(
        """INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, owed_since, next_at)
           SELECT $1, shard, seq, stored_at, 'in_flight', stored_at, stored_at + interval '10 minutes' FROM events""",
        connector,
    )
    await project.pool.execute("UPDATE connector_positions p SET seq = next_seq FROM shards s WHERE s.shard = p.shard")
    await project.pool.execute("UPDATE data_connectors SET accepted = 1")
    async with project.dispatcher():
        ledger = await until(lambda: project.settled(connector))
    assert receiver.event_ids == [event_id]
    assert ledger.delivered == 1


async def test_giving_slots_back_leaves_the_sweep_in_place(project: Project) -> None:
    """A dispatcher that hands slots over goes on to look after those it keeps."""
    async with project.dispatcher(owning=False) as dispatcher:
        sweep = await until(lambda: dispatcher.sweep)
        done = asyncio.Event()
        done.set()
        await dispatcher.own(3, done)
        assert dispatcher.sweep is sweep
