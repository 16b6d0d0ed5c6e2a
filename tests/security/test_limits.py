"""What one caller cannot take from others by asking much: each limit is for a key, an organization, or an address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from edges import RunningEdge, open_shards, running_edge
from fleets import fleet_of
from owners import Owner
from projects import account_of

from gateway.api.addresses import NAMED
from gateway.api.paging import OFFSET_MAX, TOO_DEEP
from schemas.redis import Redis

CALLS_MAX, WRONG_MAX, REGISTRATIONS_MAX = 12, 2, 4
UNKNOWN = {"mac": "02:99:99:99:99:99", "sn": "?"}


@pytest.fixture
async def edge(dsn: str, redis_url: str, redis_client: Redis) -> AsyncIterator[RunningEdge]:
    """An edge whose limits are soon reached; a third of its connections is one."""
    await open_shards(redis_client)
    limits = {
        "api_key_calls_max": CALLS_MAX,
        "wrong_claims_max": WRONG_MAX,
        "registrations_max": REGISTRATIONS_MAX,
        "postgres_pool": 3,
        "organization_share": 0.34,
        "streams_max": 4,
        "organization_streams_max": 3,
        "account_streams_max": 2,
    }
    async with running_edge(dsn, redis_url, **limits) as running:
        yield running


async def forget(edge: RunningEdge, pattern: str) -> None:
    """Let a window be over."""
    async for key in edge.services.redis.scan_iter(pattern):
        await edge.services.redis.delete(key)


async def test_a_key_that_calls_too_often_is_told_when_to_come_back(acme: Owner, globex: Owner) -> None:
    """429 with Retry-After, for that key alone; partner keys as well."""

    async def call(key: str, path: str) -> int:
        async with acme.http.get(acme.url + path, headers={"authorization": key}) as answer:
            assert answer.status != 429 or int(answer.headers["retry-after"]) >= 1
            return answer.status

    for key, path in ((acme.key, "/core/v1/organization/projects"), (acme.partner_key, "/core/v1/partner/devices")):
        statuses = await asyncio.gather(*(call(key, path) for _ in range(2 * CALLS_MAX)))
        assert (set(statuses), statuses.count(200) >= CALLS_MAX) == ({200, 429}, True)
    assert "items" in await globex.call("GET", "/projects")


async def test_a_page_is_not_walked_to(acme: Owner) -> None:
    """Whatever the list: a page that nobody led to and that lies deep is refused, with what to do instead."""
    for path in ("/devices/histories", "/devices", "/projects", "/models", "/spaces", "/connectors"):
        assert await acme.call("GET", path, page=OFFSET_MAX, per_page=100) == (422, TOO_DEEP)
    assert (await acme.call("GET", "/devices", page=OFFSET_MAX // 100 + 1, per_page=100))["items"] == []


async def test_slow_calls_of_one_organization_leave_connections_to_others(
    edge: RunningEdge, acme: Owner, globex: Owner
) -> None:
    """Five of them hold one connection of three, and each is answered in its turn."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(acme.pool.acquire())
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE device_models")
        slow = [asyncio.create_task(acme.call("GET", "/models")) for _ in range(5)]
        while not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            assert "items" in await globex.call("GET", "/projects")
        assert not any(call.done() for call in slow)
        await transaction.rollback()
    assert all("items" in answer for answer in await asyncio.gather(*slow))
    assert "tenants=0" in repr(edge.services.shares)


async def test_long_reads_take_turns_and_short_calls_do_not_wait_for_them(
    edge: RunningEdge, acme: Owner, globex: Owner
) -> None:
    """Large, deep and searched lists, of the owner's API and of the vendor's; those of another organization go on."""
    device_id = await acme.device()
    edge.services.shares.places = 3
    async with edge.services.shares.long_read(acme.organization_id):
        long = [
            asyncio.create_task(acme.call("GET", "/devices/histories", per_page=1000)),
            asyncio.create_task(acme.call("GET", "/devices/histories", status="error")),
            asyncio.create_task(acme.call("GET", "/devices", space_id=acme.space_id)),
            asyncio.create_task(acme.partner("GET", f"/devices/{device_id}/history", per_page=1000)),
        ]
        assert "items" in await globex.call("GET", "/devices/histories", per_page=1000)
        assert "items" in await acme.call("GET", "/devices")
        assert not any(call.done() for call in long)
    assert all("items" in answer for answer in await asyncio.gather(*long))


async def test_wrong_claims_must_wait_and_right_ones_need_not(acme: Owner, globex: Owner) -> None:
    """For the organization and for the address; what is right is claimed for ever, until too much was wrong."""
    place = {"space_id": str(acme.space_id)}
    for _ in range(WRONG_MAX + 1):
        row = await acme.row(await acme.device(claimed=False))
        assert "id" in await acme.call("POST", "/devices/claim", place | {"mac": row["mac"], "sn": row["sn"]})
    for _ in range(WRONG_MAX):
        assert (await acme.call("POST", "/devices/claim", place | UNKNOWN))[0] == 404
    status, text = await acme.call("POST", "/devices/claim", place | UNKNOWN)
    assert (status, text) == (429, f"More than {WRONG_MAX} wrong claims in a minute")
    row = await acme.row(await acme.device(claimed=False))
    assert (await acme.call("POST", "/devices/claim", place | {"mac": row["mac"], "sn": row["sn"]}))[0] == 429
    theirs = {"space_id": str(globex.space_id)} | UNKNOWN
    assert (await globex.call("POST", "/devices/claim", theirs))[0] == 429  # it calls from the same address


async def test_persistence_in_wrong_claims_waits_longer(edge: RunningEdge, acme: Owner) -> None:
    """When the minute is over, wrong claims go on counting for the hour, then for the day."""
    body = {"space_id": str(acme.space_id)} | UNKNOWN
    windows = []
    for _ in range(30 * WRONG_MAX):
        await forget(edge, "*:key:*")
        status, text = await acme.call("POST", "/devices/claim", body)
        if status == 429:
            windows.append(text.rpartition(" in ")[2])
            seconds = {"a minute": 60, "an hour": 3600, "a day": 86_400}[windows[-1]]
            await forget(edge, f"*:claims:*:{seconds}")
    assert windows[0] == "a minute"
    assert list(dict.fromkeys(windows)) == ["a minute", "an hour", "a day"]


async def test_claims_below_v2_count_as_well(acme: Owner) -> None:
    """Looking a device up, a dry run and a batch are guesses like any other."""
    admin = await account_of(acme, "project.admin")
    assert (await admin.ask("GET", "/v2/claimInfo?identifier=nothing"))[0] == 404
    path = f"/v2/projects/{acme.project_id}/devices:claim"
    status, answer = await admin.ask("POST", path, {"deviceIds": ["a", "b", "c"]})
    assert (status, len(answer["claimErrors"]["devices"])) == (200, 3)
    for method, again in (("GET", "/v2/claimInfo?identifier=nothing"), ("POST", path)):
        assert (await admin.ask(method, again, {"deviceIds": ["a"]} if method == "POST" else None))[0] == 429


async def test_registrations_are_limited_by_hardware_key_and_address(edge: RunningEdge, acme: Owner) -> None:
    """One key cannot fill a gateway from many addresses, nor one address with many keys; a batch counts whole."""
    fleet = await fleet_of(acme)
    for _ in range(REGISTRATIONS_MAX):
        await fleet.unit()
    status, answer = await fleet.ask("POST", "/v1/devices", fleet.registration())
    assert (status, answer["error"]) == (429, f"More than {REGISTRATIONS_MAX} registrations in a minute")
    await forget(edge, "*:registrations:127.0.0.1")
    assert (await fleet.ask("POST", "/v1/devices", fleet.registration()))[0] == 429
    other = await fleet_of(acme)
    batch = [other.registration() for _ in range(REGISTRATIONS_MAX)]
    assert (await other.ask("POST", "/v1/devices/bulk_create", batch))[0] == 429
    assert (await acme.pool.fetchval("SELECT count(*) FROM devices")) == REGISTRATIONS_MAX


async def test_streams_are_limited_for_accounts_and_organizations(
    edge: RunningEdge, acme: Owner, globex: Owner
) -> None:
    """Who opens too many is refused with 429, and others find places."""
    first, second, third = [await account_of(acme, "project.user") for _ in range(3)]
    other = await account_of(globex, "project.user")

    async def opened(stack: AsyncExitStack, account: Any) -> int:
        path = f"/v2/projects/{account.owner.project_id}/devices:stream"
        headers = {"authorization": account.basic}
        answer = await stack.enter_async_context(edge.http.get(edge.url + path, headers=headers))
        assert answer.status == 200 or answer.status == 503 or "retry-after" in answer.headers
        return int(answer.status)

    async with AsyncExitStack() as stack:
        assert [await opened(stack, first) for _ in range(3)] == [200, 200, 429]
        assert [await opened(stack, second), await opened(stack, third)] == [200, 429]
        assert [await opened(stack, other) for _ in range(2)] == [200, 503]
    async with AsyncExitStack() as stack:
        while "watches=0" not in repr(edge.services.events):
            await asyncio.sleep(0.01)
        assert await opened(stack, third) == 200


async def test_refusals_by_limits_are_counted(edge: RunningEdge, acme: Owner) -> None:
    """An operator sees which limit it was."""
    answers = await asyncio.gather(*(acme.call("GET", "/projects") for _ in range(2 * CALLS_MAX)))
    refused = sum(isinstance(answer, tuple) and answer[0] == 429 for answer in answers)
    assert edge.services.metrics.limited.labels("key")._value.get() == refused > 0


@pytest.mark.parametrize(("named", "lines"), [("", 1), ("10.0.0.7", 0)])
async def test_an_edge_behind_a_proxy_that_is_not_named_says_so_at_its_start(
    dsn: str,
    redis_url: str,
    redis_client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    named: str,
    lines: int,
) -> None:
    """Else what one address may take is, unseen, what all callers may take together."""
    await open_shards(redis_client)
    monkeypatch.setenv(NAMED, named)
    async with running_edge(dsn, redis_url, bind="0.0.0.0:8080", public_url="https://gateway.example"):
        said = [record for record in caplog.records if record.getMessage() == "proxy_unnamed"]
    assert len(said) == lines
    assert all(record.levelname == "WARNING" and NAMED in str(record.__dict__) for record in said)
