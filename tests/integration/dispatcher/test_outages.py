"""Endpoints that go away under load and come back: nobody is forgotten."""

from webhooks import Project, Receiver, answers_after, until

CONNECTORS = 20
MORE_THAN_MEMORY = 400
"""Events: more than a connector keeps in memory, so that nothing new wakes it."""
FOUND_S = 10.0
"""After the return: the next probe is due within some seconds of an outage so short, and the backlog is small."""


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
