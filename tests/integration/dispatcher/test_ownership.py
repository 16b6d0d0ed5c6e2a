"""Several dispatchers: connectors are shared, handed over, and never told of by two."""

import asyncio

from webhooks import Project, Receiver, answers_after, until

from workers.dispatcher.roster import SLOTS
from workers.shares import Shares

LOCKS = 7


async def test_workers_share_the_connectors_and_hand_them_over_without_repeating(
    project: Project, receiver: Receiver
) -> None:
    """One, then two, then the other one alone, with events all the time: each is delivered exactly once."""
    connectors = [await project.connector(f"{receiver.url}/{n}") for n in range(12)]
    receiver.behave = answers_after(0.02)
    happened: list[str] = []
    async with project.dispatcher(owning=False) as first, project.dispatcher(owning=False) as second:
        shares = [Shares(project.dsn, "dispatcher", LOCKS, SLOTS, d.own) for d in (first, second)]
        stops = [asyncio.Event(), asyncio.Event()]
        tasks = [asyncio.create_task(shares[0].run(stops[0]))]
        await until(lambda: len(first.roster.connectors) == 12)
        happened += await project.happen(20)
        tasks.append(asyncio.create_task(shares[1].run(stops[1])))
        while not second.roster.connectors:
            happened += await project.happen(5)
            await asyncio.sleep(0.02)
        assert not set(first.roster.connectors) & set(second.roster.connectors)
        stops[0].set()
        while len(second.roster.connectors) < 12:
            happened += await project.happen(5)
            await asyncio.sleep(0.02)
        for connector in connectors:
            await until(lambda c=connector: project.settled(c))
        stops[1].set()
        await asyncio.gather(*tasks)
    assert set(receiver.counts.values()) == {12}
    assert set(receiver.event_ids) == set(happened)


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
    """Rows set apart by a dispatcher that is gone are due at once for the next one."""
    connector = await project.connector(receiver.url)
    [event_id] = await project.happen()
    await project.pool.execute(
        """INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, owed_since, next_at)
           SELECT $1, shard, seq, stored_at, 'in_flight', stored_at, stored_at + interval '1 hour' FROM events""",
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
