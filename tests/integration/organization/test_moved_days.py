"""Days that lie in files are read as those in Postgres: whoever asks does not see where they are."""

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import closed_days
import pytest
from closed_days import archiver, day_before
from owners import Owner
from projects import account_of

from gateway import tenant_shares
from gateway.stores.events import archived, examining, telemetry_history, tiers
from schemas import ids, postgres
from schemas.archive import layout, listing
from schemas.postgres import PostgresBusy
from tests.conftest import SHARDS
from workers.janitor import Janitor

DAYS = (5, 4, 3, 1)
"""So many days ago; the last one is hot."""
MESSAGES = 40
"""Of each day."""


async def move(edge: Any, dsn: str) -> list[str]:
    """Archive what is to be archived, and drop what is."""
    await archiver(edge.services.postgres, dsn, edge.services.blobs).tidy()
    return await Janitor(edge.services.postgres, 31, hot_days=2, shards=SHARDS).tidy()


async def fill(tenant: Owner) -> list[UUID]:
    """Messages and other events of devices in two projects and three spaces, some late, some of one moment."""
    project = await tenant.call("POST", "/projects", {"name": "Other"})
    shelf = {"project_id": str(tenant.project_id), "name": "Shelf", "parent_id": str(tenant.space_id)}
    elsewhere = {"project_id": project["id"], "name": "Elsewhere"}
    made = [await tenant.call("POST", "/spaces", body) for body in (shelf, elsewhere)]
    spaces = [tenant.space_id, *(UUID(one["id"]) for one in made)]
    devices = [await tenant.device(space_id=spaces[n % 3], name="Door" if n % 2 else "Hatch") for n in range(6)]
    chosen, seq, rows = random.Random(3), 0, []
    for days in DAYS:
        day = day_before(days)
        await closed_days.make_day(tenant.pool, day)
        for n in range(MESSAGES):
            device = await tenant.row(chosen.choice(devices))
            stored_at = day + timedelta(minutes=20 * n)
            # Some tell of what was before their day, and some are of one second.
            at = stored_at - (timedelta(hours=30) if n % 10 == 0 else timedelta()) - timedelta(minutes=20 * (n % 2))
            told = {"status": chosen.choice(["online"] * 4 + ["error"]), "telemetries": {"n": seq, "up": n % 3 == 0}}
            kind = "telemetry" if chosen.random() < 0.8 else "touch"
            data = {"telemetry": told} if kind == "telemetry" else {"touch": {"n": seq}}
            project_id = None if n == 7 else device["project_id"]
            rows.append((device["shard"], seq, stored_at, kind, device["id"], project_id, at, data))
            seq += 1
    await tenant.pool.executemany(
        """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        rows,
    )
    return devices


async def everything(tenant: Owner, devices: list[UUID]) -> list[Any]:
    """What all readers answer, page after page, and by pages that are jumped to."""
    since, until = day_before(6).isoformat(), day_before(0).isoformat()
    account = await account_of(tenant, "project.user")
    found: list[Any] = []
    filters: list[dict[str, Any]] = [
        {},
        {"status": "error"},
        {"name": "Door"},
        {"space_id": tenant.space_id},
        {"space_id": tenant.space_id, "status": "online"},
        *({"device_id": device_id} for device_id in devices[:2]),
        {"device_id": devices[2], "status": "error"},
    ]
    found += [[one async for one in pages(tenant, since, until, per_page=25, **query)] for query in filters]
    for page in (3, 9, 2):
        found.append(await tenant.call("GET", "/devices/histories", since=since, until=until, page=page, per_page=10))
    vendors = {"since": since, "until": until, "per_page": 1000, "model_id": tenant.model_id}
    found.append(await tenant.partner("GET", "/devices/histories", **vendors))
    for device_id in devices[:3]:
        query = f"start_time={since.replace('+00:00', 'Z')}&page_size=5"
        token = ""
        while True:
            path = f"/v2/projects/{tenant.project_id}/devices/{device_id}/events?{query}&page_token={token}"
            status, answer = await account.ask("GET", path)
            found.append((status, answer.get("events")))
            token = answer.get("nextPageToken", "")
            if not token:
                break
        for points in (1000, 7):
            query_of = {"since": since, "until": until, "keys": "n", "points": points}
            found.append(await tenant.call("GET", f"/devices/{device_id}/series", **query_of))
        trial = {"device_id": str(device_id), "telemetry": "n", "comparison": "ge", "value": 90}
        found.append(await tenant.call("POST", "/incident_rules/dry_run", trial | {"from": since, "to": until}))
    return found


async def pages(tenant: Owner, since: str, until: str, **query: Any) -> AsyncIterator[Any]:
    """The messages of a list, in order."""
    page: int | None = 1
    while page is not None:
        answer = await tenant.call("GET", "/devices/histories", since=since, until=until, page=page, **query)
        for item in answer["items"]:
            yield item["telemetries"]["n"], item["timestamp"], item["stored_at"], item["status"], item["event_id"]
        page = answer["next_page"]


@pytest.fixture(autouse=True)
def _restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long reads leave nothing to others, of whom there are none."""
    monkeypatch.setattr(tenant_shares, "REST", 0)
    monkeypatch.setattr(tenant_shares, "REST_BESIDE_OTHERS", 0)


@pytest.mark.parametrize("small", [False, True])
async def test_all_lists_and_charts_are_the_same_before_and_after_days_are_moved(
    edge: Any, acme: Owner, dsn: str, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    """Of devices, names, spaces, states, projects and vendors; of days in files, in Postgres, and across the border.

    Also where a shard's day is several files, and more than are listed at once.
    """
    devices = await fill(acme)
    if small:
        monkeypatch.setattr(examining, "EXAMINED_MAX", 12)
        monkeypatch.setattr(examining, "FOUND_MAX", 5)
        monkeypatch.setattr(archived, "GROUPS_MAX", 2)
        monkeypatch.setattr(telemetry_history, "FEW_DEVICES", 1)
        monkeypatch.setattr(layout, "ROWS_OF_GROUP", 3)
        monkeypatch.setattr(layout, "GROUPS_OF_FILE", 2)
        monkeypatch.setattr(tiers, "FILES_AT_ONCE", 4)
    before = await everything(acme, devices)
    assert await move(edge, dsn) == [f"events_{day_before(days):%Y%m%d}" for days in DAYS[:3]]
    assert await acme.pool.fetchval("SELECT count(*) FROM events") == MESSAGES
    after = await everything(acme, devices)
    for one, other in zip(before, after, strict=True):
        assert other == one


async def test_a_reader_sees_a_day_in_one_tier_while_it_is_moved(edge: Any, acme: Owner, dsn: str) -> None:
    """Who reads holds the log; moving waits for it, not for long, and is tried again."""
    await fill(acme)
    log = edge.services.log
    await archiver(acme.pool, dsn, edge.services.blobs).tidy()
    janitor = Janitor(acme.pool, 31, hot_days=2, shards=SHARDS)
    async with log.reading() as connection:
        with pytest.raises(PostgresBusy):
            await janitor.tidy()
        everywhere = (range(SHARDS), day_before(9), day_before(0))
        assert not await log.moved(connection, *everywhere)
        assert await connection.fetchval("SELECT count(*) FROM events") == MESSAGES * len(DAYS)
    assert len(await janitor.tidy()) == 3
    async with log.reading() as connection:
        assert await log.moved(connection, *everywhere)


async def test_who_is_killed_while_it_drops_a_day_has_dropped_nothing(edge: Any, acme: Owner, dsn: str) -> None:
    """The partition goes and the day is moved in one transaction, or neither."""
    await fill(acme)
    await archiver(acme.pool, dsn, edge.services.blobs).tidy()
    day = day_before(5).date()
    dying = await postgres.connect(dsn, "dying")
    await dying.transaction().start()
    assert await listing.move(dying, day, f"events_{day:%Y%m%d}") == []
    dying.terminate()
    assert await acme.pool.fetchval("SELECT count(*) FROM events") == MESSAGES * len(DAYS)
    assert not await listing.is_moved(acme.pool, day)


async def test_a_day_is_moved_only_when_all_of_it_is_in_files(edge: Any, acme: Owner, dsn: str) -> None:
    """Not with a shard missing; one that grew since is archived anew first."""
    devices = await fill(acme)
    janitor = Janitor(acme.pool, 31, hot_days=2, shards=SHARDS)
    assert await janitor.tidy() == []
    await archiver(acme.pool, dsn, edge.services.blobs).tidy()
    async with acme.pool.acquire() as connection:
        await listing.reopen(connection, day_before(5).date(), [1])
    shard = (await acme.row(devices[0]))["shard"]
    await closed_days.fill(acme.pool, day_before(4), shard, devices[0], acme.project_id, 1, 100_000)
    assert await janitor.tidy() == [f"events_{day_before(3):%Y%m%d}"]
    assert len(await move(edge, dsn)) == 2
    found = [one[-1] async for one in pages(acme, day_before(6).isoformat(), day_before(0).isoformat())]
    assert len(set(found)) == len(found)
    assert ids.event_id(int(day_before(4).timestamp()), shard, 100_000) in found


async def test_a_file_that_is_away_is_told_and_nothing_else_is_missed(
    edge: Any, acme: Owner, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """503 for what lies there, and the log says which; hot days are answered."""
    await fill(acme)
    await move(edge, dsn)
    (name, *_) = await closed_days.listed(acme.pool)
    await edge.services.blobs.delete(name)
    moved = {"since": day_before(6).isoformat(), "until": day_before(2).isoformat(), "per_page": 1000}
    assert (await acme.call("GET", "/devices/histories", **moved))[0] == 503
    assert "history_file_unreadable" in caplog.text
    hot = {"since": day_before(1).isoformat(), "until": day_before(0).isoformat(), "per_page": 1000}
    assert (await acme.call("GET", "/devices/histories", **hot))["items"]
