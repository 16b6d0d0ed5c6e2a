"""What is noted of attempts, written beside deliveries."""

import time

import pytest
from prometheus_client import CollectorRegistry
from webhooks import Project

from gateway.stores.connectors import ledgers
from schemas import ids, postgres
from schemas.deliveries import ATTEMPTS_KEPT
from schemas.metrics import Metrics
from workers.dispatcher import journal
from workers.dispatcher.client import Answer, Cause
from workers.dispatcher.delivery import Delivery
from workers.dispatcher.journal import Journal


async def busy(project: Project, count: int) -> tuple[Journal, list[str]]:
    """A journal, and so many connectors."""
    made = Journal(project.pool, Metrics(CollectorRegistry()))
    connectors = [ids.new_xid() for _ in range(count)]
    await project.pool.execute(
        "INSERT INTO data_connectors (id, project_id, status, url) SELECT id, $2, 'USER_DISABLED', '' "
        "FROM unnest($1::text[]) AS n (id)",
        connectors,
        project.project_id,
    )
    return made, connectors


def note(made: Journal, connector: str, count: int, cause: Cause | None = None, *, test: bool = False) -> None:
    """So many attempts that have just ended."""
    for _ in range(count):
        delivery = Delivery(None, time.time())
        delivery.test = test
        delivery.waiting_id = 7 * test
        made.note(connector, delivery, Answer(cause, 400 if cause else 200, 0.004, ""), time.time())


async def test_a_write_has_so_many_rows_however_many_connectors_are_busy(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest follows in turn; of each connector no more is kept than its log holds, and every attempt is counted."""
    monkeypatch.setattr(journal, "ATTEMPTS_AT_ONCE", 20)
    monkeypatch.setattr(journal, "MINUTES_AT_ONCE", 3)
    made, connectors = await busy(project, 10)
    for connector in connectors:
        note(made, connector, 10)
        note(made, connector, 10, Cause.STATUS)
    note(made, connectors[0], 200, Cause.STATUS)
    note(made, connectors[9], 1, test=True)
    written, more = 0, True
    while more:
        more = await made.write(time.time())
        rows = await project.pool.fetchval("SELECT count(*) FROM delivery_attempts")
        assert rows - written < 20 + ATTEMPTS_KEPT
        if not written:
            assert await project.pool.fetchval("SELECT count(*) FROM delivery_attempts WHERE waiting_id = 7") == 1
        written = rows
    assert written == 9 * 15 + 1 + ATTEMPTS_KEPT
    now = time.time()
    moments = [await ledgers.recent(project.pool, each, journal.moment(now)) for each in connectors]
    assert [(each.successes, each.errors) for each in moments] == [(10, 210), *[(10, 10)] * 8, (11, 10)]


async def test_what_failed_keeps_its_room_however_much_succeeds(project: Project) -> None:
    """The last of each are kept, so that a failure of this morning is found among a million successes."""
    made, (connector,) = await busy(project, 1)
    note(made, connector, 7, Cause.STATUS)
    await made.write(time.time())
    await project.pool.execute(
        """INSERT INTO delivery_attempts (connector_id, at, event_id, attempt, latency_ms)
           SELECT $1, now(), 'e', 1, 1 FROM generate_series(1, 3 * $2::integer)""",
        connector,
        ATTEMPTS_KEPT,
    )
    note(made, connector, 1)
    await made.write(time.time() + journal.TRIMMED_EVERY_S)
    kept = await ledgers.attempts(project.pool, connector)
    assert [sum(row["cause"] is None for row in kept), len(kept)] == [ATTEMPTS_KEPT, ATTEMPTS_KEPT + 7]


async def test_a_connector_that_is_being_deleted_holds_up_no_attempt_of_others(project: Project) -> None:
    """Its own are forgotten."""
    made, (gone, other) = await busy(project, 2)
    note(made, gone, 3)
    note(made, other, 3)
    connection = await postgres.connect(project.dsn, "deleter")
    async with connection.transaction():
        await connection.execute("DELETE FROM data_connectors WHERE id = $1", gone)
        assert not await made.write(time.time())
    await connection.close()
    assert len(await ledgers.attempts(project.pool, other)) == 3
