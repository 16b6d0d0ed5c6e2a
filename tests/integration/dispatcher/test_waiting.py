"""What others put into a connector's queue: replays, synchronizations, tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from webhooks import Project, Receiver, answers, until

from gateway.stores.connectors import ledgers


async def owe(project: Project, connector: str, cause: str, **columns: Any) -> list[int]:
    """Put all events of the log into the queue, as the API does: lock, count, insert."""
    async with project.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM data_connectors WHERE id = $1 FOR NO KEY UPDATE", connector)
        rows = await connection.fetch(
            """INSERT INTO waiting_deliveries
                      (connector_id, shard, seq, stored_at, cause, owed_since, next_at, device_id)
               SELECT $1, shard, seq, stored_at, $2, now(), now(), device_id FROM events RETURNING id""",
            connector,
            cause,
        )
        await connection.execute(
            "UPDATE data_connectors SET accepted = accepted + $2 WHERE id = $1", connector, len(rows)
        )
    return [row["id"] for row in rows]


async def test_replayed_and_synchronized_events_go_through_the_same_queue(project: Project, receiver: Receiver) -> None:
    """All of them, with the ids that they have always had."""
    happened = await project.happen(150)
    connector = await project.connector(receiver.url)
    async with project.dispatcher():
        later = await project.happen(5)
        await until(lambda: project.settled(connector))
        assert sorted(receiver.event_ids) == sorted(later)
        for cause in ("replay", "sync"):
            receiver.received.clear()
            await owe(project, connector, cause)
            await until(lambda: project.settled(connector))
            assert sorted(receiver.event_ids) == sorted(happened + later)


async def test_events_that_were_superseded_while_in_flight_are_not_counted_twice(
    project: Project, receiver: Receiver
) -> None:
    """A second synchronization replaces the first; the request that was under way ends unheard."""
    connector = await project.connector(receiver.url)
    receiver.behave = answers(500)
    async with project.dispatcher(chance=lambda: 0.99):
        await project.happen(10)
        await until(lambda: len(receiver.received) >= 8)
        async with project.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM data_connectors WHERE id = $1 FOR NO KEY UPDATE", connector)
            gone = await connection.fetch(
                "DELETE FROM waiting_deliveries WHERE connector_id = $1 RETURNING 1", connector
            )
            await connection.execute(
                "UPDATE data_connectors SET superseded = superseded + $2 WHERE id = $1", connector, len(gone)
            )
        receiver.behave = answers(200)
        await until(lambda: project.settled(connector))
        await owe(project, connector, "sync")
        ledger = await until(lambda: project.settled(connector))
    assert ledger.accepted == 20
    assert ledger.delivered + ledger.superseded == 20


async def test_a_synchronized_event_that_the_log_has_dropped_is_still_sent(
    project: Project, receiver: Receiver
) -> None:
    """From what the device reported last, with its labels of today."""
    device, at = project.devices[0], datetime.now(UTC) - timedelta(days=60)
    await project.pool.execute("""UPDATE devices SET labels = '{"floor": "3"}' WHERE id = $1""", device)
    await project.pool.execute(
        """INSERT INTO device_reported (device_id, type, ts, shard, seq, stored_at, data)
           VALUES ($1, 'touch', $2, 1, 17, $2, '{"touch": {}}')""",
        device,
        at,
    )
    connector = await project.connector(receiver.url, labels=["floor"])
    await project.pool.execute("UPDATE data_connectors SET accepted = 1")
    async with project.dispatcher():
        await project.pool.execute(
            """INSERT INTO waiting_deliveries
                      (connector_id, shard, seq, stored_at, cause, owed_since, next_at, device_id)
               VALUES ($1, 1, 17, $2, 'sync', now(), now(), $3)""",
            connector,
            at,
            device,
        )
        await until(lambda: project.settled(connector))
    body = msgspec.json.decode(receiver.received[0].body)
    assert body["event"]["eventType"] == "touch"
    assert body["event"]["targetName"] == f"projects/{project.project_id}/devices/{device}"
    assert body["labels"] == {"floor": "3"}


async def test_a_waiting_event_that_is_nowhere_any_more_expires(project: Project, receiver: Receiver) -> None:
    """Its partition was dropped before it could be sent."""
    connector = await project.connector(receiver.url)
    await project.happen()
    await owe(project, connector, "replay")
    await project.pool.execute("DELETE FROM events")
    async with project.dispatcher():
        ledger = await until(lambda: project.settled(connector))
    assert (ledger.accepted, ledger.expired) == (1, 1)


async def test_a_test_event_is_tried_once_whatever_the_state_of_the_endpoint(
    project: Project, receiver: Receiver
) -> None:
    """A dead, paused endpoint gets it at once; its answer is found by the row's id; a failure is not repeated."""
    receiver.behave = answers(503, **{"Retry-After": "600"})
    connector = await project.connector(receiver.url)
    body = {"event": {"eventId": "test-1", "eventType": "touch"}, "labels": {}, "metadata": {}}
    async with project.dispatcher():
        await project.happen(20)
        await until(lambda: receiver.received)
        await until(lambda: ledgers.attempts(project.pool, connector))
        receiver.behave = answers(418, "a teapot")
        row_id = await project.pool.fetchval(
            """WITH counted AS (UPDATE data_connectors SET accepted = accepted + 1 WHERE id = $1 RETURNING id)
               INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, owed_since, next_at, body)
               SELECT id, 0, 0, now(), 'test', now(), now(), $2 FROM counted RETURNING id""",
            connector,
            body,
        )
        query = "SELECT event_id, status, answer FROM delivery_attempts WHERE waiting_id = $1"
        noted = await until(lambda: project.pool.fetchrow(query, row_id), 3)
        await until(lambda: _gone(project, row_id))
        ledger = await project.ledger(connector)
    assert tuple(noted) == ("test-1", 418, "a teapot")
    assert ledger.expired == 1
    assert msgspec.json.decode(receiver.received[-1].body) == body


async def test_a_disabled_connector_is_sent_a_test_event_and_nothing_else(project: Project, receiver: Receiver) -> None:
    """Outside its queue and its ledger; the answer is found all the same."""
    connector = await project.connector(receiver.url, status="USER_DISABLED", secret="s" * 32)
    body = {"event": {"eventId": "test-2", "eventType": "touch"}, "labels": {}, "metadata": {}}
    async with project.dispatcher() as dispatcher:
        await until(lambda: dispatcher.roster.shards)
        await project.happen(5)
        row_id = await project.pool.fetchval(
            """INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, owed_since, next_at, body)
               VALUES ($1, 0, 0, now(), 'test', now(), now(), $2) RETURNING id""",
            connector,
            body,
        )
        query = "SELECT event_id, status FROM delivery_attempts WHERE waiting_id = $1"
        noted = await until(lambda: project.pool.fetchrow(query, row_id), 7)
    assert tuple(noted) == ("test-2", 200)
    assert [r.event_id for r in receiver.received] == ["test-2"]
    assert "X-Dt-Signature" in receiver.received[0].headers
    ledger = await project.ledger(connector)
    assert (ledger.accepted, ledger.pending) == (0, 0)


async def _gone(project: Project, row_id: int) -> bool:
    return await project.pool.fetchval("SELECT count(*) FROM waiting_deliveries WHERE id = $1", row_id) == 0
