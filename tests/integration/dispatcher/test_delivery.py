"""Every event reaches every connector that wants it."""

from webhooks import Project, Receiver, until


async def test_each_event_is_delivered_once_and_counted(project: Project, receiver: Receiver) -> None:
    """To a receiver that always answers 2xx nothing is sent twice, and the ledger tells the number."""
    connector = await project.connector(receiver.url)
    async with project.dispatcher():
        happened = await project.happen(100)
        happened += await project.happen(5)
        await until(lambda: len(receiver.received) >= 105)
        ledger = await until(lambda: project.settled(connector))
    assert sorted(receiver.event_ids) == sorted(happened)
    assert (ledger.accepted, ledger.delivered, ledger.oldest_pending_s) == (105, 105, 0.0)
