"""What workers do as time passes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flushing import send, store_all
from owners import Owner
from prometheus_client import CollectorRegistry

from gateway.stores.connectors import ledgers
from schemas import ids, keys
from schemas.events import rfc3339
from schemas.metrics import Metrics
from schemas.postgres import Pool, PostgresBusy
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from workers.janitor import Janitor
from workers.replies import ReplyRefresher
from workers.retention import Retention


async def test_a_change_whose_author_died_still_reaches_the_device(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """The row in the queue leads to the reply, and is gone once that is written; a young row is left alone."""
    device_id = await acme.device()
    row = await acme.row(device_id)
    await edge.services.postgres.execute("DELETE FROM reply_queue")
    await edge.services.postgres.execute("UPDATE devices SET config_version = 7 WHERE id = $1", device_id)
    refresher = ReplyRefresher(edge.services.postgres, redis_client)
    assert await refresher.refresh() == 0
    assert await refresher.refresh(datetime.now(UTC) + timedelta(seconds=5)) == 1
    reply = await redis_client.hget(keys.reply(row["shard"]), str(device_id))
    assert b'"config_version":7' in reply
    assert await edge.services.postgres.fetchval("SELECT count(*) FROM reply_queue") == 0


async def test_partitions_are_made_ahead_and_dropped_after_the_retention(pool: Pool) -> None:
    """A partition goes when its whole day is past the retention, and not before."""
    # Of the day on which the schema was made, which may be yesterday by now.
    first = await pool.fetchval(
        "SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'events'::regclass"
    )
    now = datetime.strptime(first, "events_%Y%m%d").replace(hour=12, tzinfo=UTC)
    assert await Janitor(pool, 31).tidy(now) == []
    assert await Janitor(pool, 31).tidy(now + timedelta(days=31)) == []
    assert await Janitor(pool, 31).tidy(now + timedelta(days=32)) == [first]


async def test_a_partition_is_made_beside_an_open_reader_of_the_log(pool: Pool) -> None:
    """And nobody who writes waits for either. It has the log's keys and indexes."""
    day = datetime.now(UTC) + timedelta(days=5)
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT * FROM events LIMIT 1")
        async with asyncio.timeout(20):
            await pool.execute("SELECT create_event_partitions(5)")
    indexes = await pool.fetch(
        """SELECT i.indexrelid::regclass::text AS name, count(p.inhparent) AS attached
             FROM pg_index i LEFT JOIN pg_inherits p ON p.inhrelid = i.indexrelid
            WHERE i.indrelid = $1::text::regclass GROUP BY 1""",
        f"events_{day:%Y%m%d}",
    )
    parents = await pool.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = 'events'::regclass")
    assert [row["attached"] for row in indexes] == [1] * parents


async def test_two_who_make_the_same_partition_make_it_once(pool: Pool) -> None:
    """And one that cannot is told to try again, instead of holding up whoever comes behind it."""
    makers = (pool.execute("SELECT create_event_partitions($1)", days) for days in (6, 7))
    await asyncio.gather(*makers)
    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE events IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(PostgresBusy):
            await pool.execute("SELECT create_event_partitions(8)")


async def test_a_clock_that_is_set_ends_nothing(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """Events are dated by the clock of Postgres; the day that it says has its partition when it is needed."""
    device_id = await acme.device()
    await send(edge, device_id, telemetries={"n": 1})
    await acme.pool.execute(f"DROP TABLE events_{datetime.now(UTC):%Y%m%d}")
    assert await store_all(edge, redis_client) == 1
    assert await acme.pool.fetchval("SELECT count(*) FROM events WHERE type = 'telemetry'") == 1


async def test_what_has_ended_goes_after_its_days_and_nothing_else(acme: Owner, pool: Pool) -> None:
    """Commands, incidents, tickets and quarantine; what is open, or ended a moment ago, stays."""
    now = datetime.now(UTC)
    old, fresh = now - timedelta(days=2), now - timedelta(hours=1)
    device_id = await acme.device()
    for number, (status, ended) in enumerate([("done", old), ("failed", fresh), ("pending", None)]):
        await pool.execute(
            """INSERT INTO commands (id, device_id, name, friendly_name, status, timeout_s, created_at, expires_at,
                                     finished_at) VALUES ($1, $2, $3, 'R', $4, 600, $5, now(), $6)""",
            ids.new_id(),
            device_id,
            str(number),
            status,
            old,
            ended,
        )
        await pool.execute(
            """INSERT INTO incidents (id, device_id, issue, title, opened_at, closed_at)
               VALUES ($1, $2, $3, 'T', $4, $5)""",
            ids.new_id(),
            device_id,
            str(number),
            old,
            ended,
        )
        await pool.execute(
            """INSERT INTO tickets (id, organization_id, vendor_id, device_id, title, created_at, resolved_at)
               VALUES ($1, $2, $2, $3, $4, $5, $6)""",
            ids.new_id(),
            acme.organization_id,
            device_id,
            str(number),
            old,
            ended,
        )
        await pool.execute(
            """INSERT INTO ingest_quarantine (shard, entry_id, position, reason, message, stored_at)
               VALUES ($1, $2, 0, 'r', 'm', $3)""",
            number % 2,
            str(number),
            ended or old,
        )
    settings = WorkerSettings(
        postgres_dsn="",
        redis_url="",
        master_key="",
        commands_days=1,
        incidents_days=1,
        quarantine_days=1,
        tickets_days=1,
    )
    await Retention(pool, Metrics(CollectorRegistry()), settings, 4).tidy()
    assert [row["name"] for row in await pool.fetch("SELECT name FROM commands ORDER BY 1")] == ["1", "2"]
    assert [row["issue"] for row in await pool.fetch("SELECT issue FROM incidents ORDER BY 1")] == ["1", "2"]
    assert [row["title"] for row in await pool.fetch("SELECT title FROM tickets ORDER BY 1")] == ["1", "2"]
    assert [row["entry_id"] for row in await pool.fetch("SELECT entry_id FROM ingest_quarantine")] == ["1"]


async def test_of_a_device_deleted_long_ago_only_what_turns_its_key_away_is_left(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """Its commands, incidents, tickets, notes, state, name and settings are gone; others' are not."""
    gone, kept = await acme.device(name="Gone", details={"a": 1}), await acme.device(name="Kept")
    for device_id in (gone, kept):
        await send(edge, device_id, telemetries={"n": 1})
        await acme.call("POST", f"/devices/{device_id}/notes", {"content": "N"})
        await acme.call("POST", "/tickets", {"device_id": str(device_id), "title": "T"})
        await acme.incident(device_id, 3)
    await store_all(edge, redis_client)
    await acme.pool.execute("UPDATE devices SET deleted_at = now() - interval '32 days' WHERE id = $1", gone)
    settings = WorkerSettings(postgres_dsn="", redis_url="", master_key="")
    await Retention(acme.pool, Metrics(CollectorRegistry()), settings, 4).tidy()
    rows = await acme.pool.fetch("SELECT name, details, deleted_at IS NULL AS lives FROM devices ORDER BY name")
    assert [tuple(row) for row in rows] == [("", {}, False), ("Kept", {}, True)]
    for table in ("device_state", "incidents", "tickets", "notes"):
        assert [row["device_id"] for row in await acme.pool.fetch(f"SELECT device_id FROM {table}")] == [kept]
    async with edge.http.post(
        f"{edge.url}/v1/devices/{gone}/command",
        json={},
        headers={"authorization": edge.services.access_keys.issue(str(gone), 0)},
    ) as answer:
        assert answer.status == 401


async def test_a_partition_that_a_connector_owes_events_of_is_kept_for_some_days_more(
    edge: Any, acme: Owner, redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the retention; in the end it goes, and the log and the ledger say how many events were not sent, and of
    which time. Nobody counts them again.
    """
    now = datetime.now(UTC)
    today = f"events_{now:%Y%m%d}"
    connector = await _connector(acme)
    device_id = await acme.device()
    for n in range(2):
        await send(edge, device_id, telemetries={"n": n})
        await store_all(edge, redis_client)
    janitor = Janitor(acme.pool, 1)
    assert today not in await janitor.tidy(now + timedelta(days=3))
    assert today not in await janitor.tidy(now + timedelta(days=8))
    first, last = await acme.pool.fetchrow(
        "SELECT min(stored_at), max(stored_at) FROM events WHERE project_id = $1", acme.project_id
    )
    epoch = await acme.pool.fetchval("SELECT epoch FROM data_connectors")
    assert today in await janitor.tidy(now + timedelta(days=10))
    assert "events_dropped_unsent" in caplog.text
    found = await ledgers.ledger(acme.pool, connector)
    assert found is not None
    assert (found.accepted, found.expired, found.expired_unread, found.backlog) == (2, 2, 2, 0)
    assert (found.expired_unread_from, found.expired_unread_until) == (rfc3339(first), rfc3339(last))
    assert await acme.pool.fetchval("SELECT epoch FROM data_connectors") > epoch


async def test_a_partition_is_not_kept_for_events_that_a_connector_does_not_want(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """It would pass them."""
    now = datetime.now(UTC)
    connector = await _connector(acme, "motion")
    await send(edge, await acme.device(), telemetries={"n": 1})
    await store_all(edge, redis_client)
    assert f"events_{now:%Y%m%d}" in await Janitor(acme.pool, 1).tidy(now + timedelta(days=3))
    found = await ledgers.ledger(acme.pool, connector)
    assert found is not None
    assert (found.expired_unread, found.expired_unread_from) == (0, None)


async def _connector(owner: Owner, *event_types: str) -> str:
    """One that nobody serves."""
    connector_id = ids.new_xid()
    await owner.pool.execute(
        """INSERT INTO data_connectors (id, project_id, status, url, event_types)
           VALUES ($1, $2, 'ACTIVE', 'https://x', $3)""",
        connector_id,
        owner.project_id,
        list(event_types),
    )
    return connector_id
