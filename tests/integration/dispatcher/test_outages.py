"""Endpoints that go away under load and come back: nobody is forgotten."""

import asyncio
import random
from contextlib import AsyncExitStack

from webhooks import Behaviour, Project, Receiver, answers, answers_after, hangs, resets, until

CONNECTORS = 20
ROUNDS = 3
MORE_THAN_MEMORY = 400
"""Events: more than a connector keeps in memory, so that nothing new wakes it."""
FOUND_S = 60.0
"""After the return, on the busiest of machines."""


async def test_receivers_killed_under_load_get_all_they_are_owed_after_their_return(project: Project) -> None:
    """Connections refused and answers cut off; more is stored meanwhile than memory holds, and nothing afterwards."""
    receiver = Receiver()
    await receiver.start()
    port = int(receiver.url.rpartition(":")[2].partition("/")[0])
    receiver.behave = answers_after(0.02)
    connectors = [await project.connector(receiver.url) for _ in range(CONNECTORS)]
    async with project.dispatcher(chance=lambda: 0.0) as dispatcher:
        serving = dispatcher.roster.connectors
        await project.happen(20)
        await until(lambda: receiver.under_way)
        await receiver.stop()
        await project.happen(MORE_THAN_MEMORY)
        await until(lambda: len(serving) == CONNECTORS and all(c.pace.probes >= 2 for c in serving.values()))
        await receiver.start(port)
        for connector in connectors:
            await until(lambda c=connector: project.settled(c), FOUND_S)
    await receiver.stop()


async def test_receivers_that_are_away_again_and_again_get_all_they_are_owed_each_time(project: Project) -> None:
    """Outages of random lengths and of every kind, while events go on to happen; after each all arrive soon."""
    chance = random.Random(1)
    taken = answers_after(0.02)
    happened: list[str] = []
    ended = asyncio.Event()

    async def load() -> None:
        while not ended.is_set():
            happened.extend(await project.happen(chance.randrange(1, 6)))
            await asyncio.sleep(chance.uniform(0.02, 0.1))

    async def outages(receiver: Receiver, away: Behaviour | None) -> None:
        port = int(receiver.url.rpartition(":")[2].partition("/")[0])
        for _ in range(ROUNDS):
            receiver.behave = taken
            begun = len(receiver.received)
            await until(lambda begun=begun: len(receiver.received) > begun)
            if away is None:
                await receiver.stop()
            receiver.behave = away or taken
            await asyncio.sleep(chance.uniform(0.1, 1.5))
            receiver.behave = taken
            if away is None:
                await receiver.start(port)
            owed = set(happened)
            await until(lambda owed=owed: owed <= receiver.counts.keys(), FOUND_S)

    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(Receiver()) for _ in range(4)]
        connectors = [await project.connector(receiver.url) for receiver in receivers]
        await stack.enter_async_context(project.dispatcher(chance=chance.random, delivery_timeout_s=1.0))
        loading = asyncio.create_task(load())
        await asyncio.gather(*map(outages, receivers, [None, resets, hangs, answers(502)]))
        ended.set()
        await loading
        for connector in connectors:
            ledger = await until(lambda c=connector: project.settled(c), FOUND_S)
            assert ledger.delivered == len(happened)
