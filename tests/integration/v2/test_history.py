"""The history of a device: by the public client library, page by page, and from its partitions by index alone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import disruptive as dt
import msgspec
import pytest
from disruptive import errors
from flushing import send, store_all
from owners import Owner
from projects import Account, account_of

from gateway.api import page_tokens
from gateway.stores.events import by_index
from gateway.stores.events import history as event_history
from gateway.stores.events.examining import Range
from schemas.events import rfc3339
from schemas.redis import Redis

NOW = datetime.now(UTC)


def path(owner: Owner, device_id: Any, query: str = "") -> str:
    return f"/v2/projects/{owner.project_id}/devices/{device_id}/events?{query}"


async def store(owner: Owner, device_id: UUID, *events: tuple[datetime, datetime, str]) -> None:
    """Put events of (time, stored at, type) into the log, in this order."""
    days = {stored_at.astimezone(UTC).date() for _, stored_at, _ in events}
    for day in sorted(days):
        await owner.pool.execute(
            f"""CREATE TABLE IF NOT EXISTS events_{day:%Y%m%d} PARTITION OF events
                FOR VALUES FROM ('{day} 00:00:00+00') TO ('{day + timedelta(days=1)} 00:00:00+00')"""
        )
    row = await owner.row(device_id)
    async with owner.pool.acquire() as connection, connection.transaction():
        seq = await connection.fetchval(
            "UPDATE shards SET next_seq = next_seq + $2 WHERE shard = $1 RETURNING next_seq - $2",
            row["shard"],
            len(events),
        )
        await connection.copy_records_to_table(
            "events",
            columns=("shard", "seq", "stored_at", "type", "device_id", "project_id", "ts", "data"),
            records=[
                (row["shard"], seq + n, stored_at, kind, device_id, row["project_id"], ts, {kind: {"n": seq + n}})
                for n, (ts, stored_at, kind) in enumerate(events)
            ],
        )


async def history(account: Account, device_id: Any, query: str = "") -> list[int]:
    """The numbers of the events on one page."""
    status, answer = await account.ask("GET", path(account.owner, device_id, query))
    assert status == 200, answer
    return [event["data"][event["eventType"]]["n"] for event in answer["events"]]


async def test_the_client_lists_the_history_of_a_device(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """As its documentation shows: of the last day, or of a time range, of all types or some; newest first."""
    await acme.pool.execute(
        "UPDATE device_models SET event_mappings = $2 WHERE id = $1",
        acme.model_id,
        {"t": "touch", "temp": "temperature"},
    )
    device_id = await acme.device()
    user, project = await account_of(acme, "project.user"), str(acme.project_id)
    at = NOW.replace(microsecond=123456) - timedelta(minutes=1)
    for minutes, values in ((0, {"temp": 20}), (60, {"t": True}), (2_000, {"temp": 18})):
        await send(edge, device_id, telemetries=values, timestamp=rfc3339(at - timedelta(minutes=minutes)))
    await store_all(edge, redis_client)

    async def listed(**options: Any) -> list[Any]:
        return list(await user.client(dt.EventHistory.list_events, str(device_id), project, **options))

    found = await listed()
    assert [event.event_type for event in found] == ["temperature", "telemetry", "touch", "telemetry"]
    assert (found[0].data.celsius, found[0].data.timestamp) == (20, at)
    assert (found[0].device_id, found[0].project_id) == (str(device_id), project)
    assert found[0].raw["timestamp"] == found[0].raw["data"]["temperature"]["updateTime"] == rfc3339(at)
    assert len({event.event_id for event in found}) == 4
    only = await listed(event_types=[dt.events.TOUCH, dt.events.TEMPERATURE], start_time=at - timedelta(days=7))
    assert [event.event_type for event in only] == ["temperature", "touch", "temperature"]
    assert only[-1].data.is_backfilled
    past = await listed(start_time=at - timedelta(days=7), end_time=at - timedelta(minutes=60))
    assert [event.event_type for event in past] == ["temperature", "telemetry"]
    with pytest.raises(errors.NotFound):
        await user.client(dt.EventHistory.list_events, "emu00000000000000000000", project)


async def test_pages_join_into_the_whole_history_while_it_grows(acme: Owner) -> None:
    """Every event once, in order, also where several happened at the same moment and newer ones come meanwhile."""
    device_id = await acme.device()
    user = await account_of(acme, "project.user")
    times = [NOW - timedelta(hours=n // 3) for n in range(20)]
    await store(acme, device_id, *((ts, NOW, "touch") for ts in times))
    whole = await history(user, device_id)
    assert len(whole) == 20
    found, token = [], ""
    while True:
        status, answer = await user.ask("GET", path(acme, device_id, f"page_size=3&page_token={token}"))
        assert status == 200
        found += [event["data"]["touch"]["n"] for event in answer["events"]]
        token = answer["nextPageToken"]
        if not token:
            break
        await store(acme, device_id, (datetime.now(UTC), datetime.now(UTC), "touch"))
    assert found == whole


async def test_late_events_are_found_by_their_own_time(acme: Owner) -> None:
    """Stored in another partition than their neighbours, in order all the same; and those dated ahead."""
    device_id = await acme.device()
    user = await account_of(acme, "project.user")
    old = NOW - timedelta(days=20)
    await store(
        acme,
        device_id,
        (old, old, "touch"),
        (old + timedelta(hours=2), old + timedelta(hours=2), "touch"),
        (old + timedelta(hours=1), NOW, "touch"),
        (old + timedelta(hours=23, minutes=59), old, "touch"),
        (NOW + timedelta(hours=23), NOW, "touch"),
    )
    first = (await history(user, device_id))[0]
    assert await history(user, device_id) == [first]

    async def between(since: timedelta, until: timedelta) -> list[int]:
        times = f"startTime={rfc3339(old + since)}&endTime={rfc3339(old + until)}"
        return [n - first + 4 for n in await history(user, device_id, times)]

    assert await between(timedelta(0), timedelta(days=1)) == [3, 1, 2, 0]
    assert await between(timedelta(hours=1), timedelta(hours=2)) == [2]
    assert await between(timedelta(hours=23), timedelta(days=1)) == [3]


async def test_a_device_is_read_where_it_was(acme: Owner, globex: Owner) -> None:
    """Also after its deletion; not in another project, nor by who has no role."""
    device_id, other = await acme.device(), await globex.device()
    await store(acme, device_id, (NOW, NOW, "touch"))
    user = await account_of(acme, "project.user")
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", device_id)
    assert len(await history(user, device_id)) == 1
    quiet = await acme.device()
    assert await history(user, quiet) == []
    for unknown in (other, acme.model_id, "x", "emux", "%00"):
        assert (await user.ask("GET", path(acme, unknown)))[0] == 404
    assert (await user.ask("GET", path(globex, other)))[0] == 404


@pytest.mark.parametrize(
    "query",
    [
        "event_types=x",
        "event_types=touch&event_types=ping",
        "page_size=0",
        "page_size=1001",
        "start_time=yesterday",
        "start_time=2026-01-02T00:00:00Z&end_time=2026-01-01T00:00:00Z",
        "start_time=2026-01-01T00:00:00Z&end_time=2026-01-01T00:00:00Z",
        "start_time=0001-01-01T00:00:00Z",
        "end_time=9999-12-31T23:59:59Z",
        "end_time=0001-01-01T00:00:00Z",
        "start_time=9999-12-31T23:59:59Z",
        "page_token=x",
        "page_token=WzFd",
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(acme: Owner, query: str) -> None:
    """With 400."""
    device_id = await acme.device()
    user = await account_of(acme, "project.user")
    status, answer = await user.ask("GET", path(acme, device_id, query))
    assert (status, answer["code"]) == (400, 400)


@pytest.mark.parametrize(
    "place",
    [
        ["0001-01-01T00:00:00+14:00", 1],
        ["9999-12-31T23:59:59-14:00", 1],
        ["2026-01-01T00:00:00", 1],
        ["2026-01-01T00:00:00Z", 2**63],
        ["\0", 1],
    ],
)
async def test_a_page_token_that_somebody_made_up_is_refused(acme: Owner, place: list[Any]) -> None:
    """Also where it holds a time that no column of the database does."""
    device_id = await acme.device()
    user = await account_of(acme, "project.user")
    token = page_tokens.seal((device_id, None, None), place)
    assert (await user.ask("GET", path(acme, device_id, f"page_token={token}")))[0] == 400
    token = page_tokens.seal((device_id, None, None), ["2026-01-01T00:00:00Z", 1])
    assert (await user.ask("GET", path(acme, device_id, f"page_token={token}")))[0] == 200


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("types", [(), ("touch",)])
@pytest.mark.parametrize("deep", [False, True])
async def test_the_plan_is_index_scans_of_the_partitions_that_matter(
    acme: Owner, analyzed: bool, types: Any, deep: bool
) -> None:
    """No scan of a table, no sort but within a moment, no partition that is too old; on every page, of any type, also
    before PostgreSQL has statistics of a new partition.
    """
    device_id = await acme.device()
    days = [NOW - timedelta(days=n) for n in range(12)]
    others = [await acme.device() for _ in range(3)]
    for owner_of in (*others, device_id):
        rows = [(ts - timedelta(seconds=n), ts, "touch") for ts in days for n in range(300)]
        await store(acme, owner_of, *rows)
    if analyzed:
        await acme.pool.execute("ANALYZE events")
    since, shard = NOW - timedelta(days=3), (await acme.row(device_id))["shard"]
    within = Range(since, NOW, (NOW - timedelta(days=1), shard, 1) if deep else None)
    examined = event_history.examined(acme.project_id, device_id, shard, within, types)
    statement, arguments = examined.page(0, 101)
    for mode in ("force_custom_plan", "force_generic_plan"):
        async with acme.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"{by_index.SETTINGS}; SET LOCAL plan_cache_mode = {mode}")
            explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *arguments)
        plan = (msgspec.json.decode(explained) if isinstance(explained, str) else explained)[0]["Plan"]
        nodes = list(_nodes(plan))
        kinds = {node["Node Type"] for node in nodes}
        assert kinds <= {"Limit", "Incremental Sort", "Append", "Merge Append", "Index Scan", "Subquery Scan"}, kinds
        scans = [node for node in nodes if node["Node Type"] == "Index Scan"]
        assert all("device_id_ts" in scan["Index Name"] for scan in scans)
        # Three days, the day that messages may be dated ahead, the day begun; and empty partitions of the days to come.
        assert {scan["Relation Name"] for scan in scans} <= {
            f"events_{NOW + timedelta(days=n):%Y%m%d}" for n in range(-5, 4)
        }
        read = sum(scan["Actual Rows"] * scan["Actual Loops"] for scan in scans)
        assert read <= 3 * 101, plan
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200
