"""A page of a list is bounded in bytes, whatever it is a list of; and what did not fit is on the next."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
from edges import RunningEdge
from owners import Owner
from projects import account_of

from gateway.api import paging
from gateway.refusals import Unavailable
from gateway.services import Services
from schemas import ids, redis
from schemas.bounds import PAGE_BYTES_MAX

MESSAGES, CHARACTERS = 90, 120_000


async def large_messages(tenant: Owner) -> UUID:
    """A device with messages of 120 KB each, numbered from the oldest."""
    device_id = await tenant.device()
    await tenant.pool.execute(
        """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
           SELECT shard, n, now(), 'telemetry', id, project_id, now() - make_interval(secs => 1000 - n),
                  json_build_object('telemetry', json_build_object('telemetries',
                      json_build_object('n', n, 'text', repeat('x', $2))))
             FROM devices, generate_series(1, $3) n WHERE id = $1""",
        device_id,
        CHARACTERS,
        MESSAGES,
    )
    return device_id


async def pages(tenant: Owner, path: str, key: str, query: str) -> list[list[Any]]:
    """All pages of a list, read by their numbers."""
    found, page = [], 1
    while page:
        async with tenant.http.get(f"{tenant.url}{path}?{query}&page={page}", headers={"authorization": key}) as answer:
            body = await answer.read()
        assert len(body) < PAGE_BYTES_MAX + 10_000
        shown = msgspec.json.decode(body)
        assert shown["has_next_page"] == (shown["next_page"] is not None)
        found.append(shown["items"])
        page = shown["next_page"]
    return found


async def test_histories_of_large_messages_come_in_more_pages(acme: Owner) -> None:
    """To the owner and to the vendor: each message once, in their order."""
    device_id = await large_messages(acme)
    newest_first = list(range(MESSAGES, 0, -1))
    for path, key in (
        ("/core/v1/organization/devices/histories", acme.key),
        (f"/core/v1/partner/devices/{device_id}/history", acme.partner_key),
    ):
        for per_page in (1_000, 50):
            read = await pages(acme, path, key, f"per_page={per_page}")
            assert [item["telemetries"]["n"] for page in read for item in page] == newest_first
            assert len(read) > MESSAGES * CHARACTERS // PAGE_BYTES_MAX


async def test_events_of_a_device_come_in_more_pages(acme: Owner) -> None:
    """Below /v2, by page tokens."""
    device_id = await large_messages(acme)
    user = await account_of(acme, "project.user")
    token, read, answers = "", [], 0
    while answers == 0 or token:
        path = f"/v2/projects/{acme.project_id}/devices/{ids.device_name(device_id)}/events"
        status, answer = await user.ask("GET", f"{path}?page_size=1000&page_token={token}")
        assert status == 200
        assert len(msgspec.json.encode(answer)) < PAGE_BYTES_MAX + 10_000
        read += [event["data"]["telemetry"]["telemetries"]["n"] for event in answer["events"]]
        token, answers = answer["nextPageToken"], answers + 1
    assert read == list(range(MESSAGES, 0, -1))
    assert answers == 3


async def test_one_item_that_is_larger_than_a_page_is_a_page(edge: RunningEdge) -> None:
    """A list never stands still."""
    items = ["x" * (PAGE_BYTES_MAX + 1), "y", "z" * PAGE_BYTES_MAX]
    read, page = [], 1

    async def read_items(window: paging.Window) -> list[str]:
        first = 0 if window.after is None else int(window.after[0])
        return items[first : first + window.limit]

    while page:
        found = await paging.read_page(
            edge.services, ("large",), page, 50, read_items, lambda item: [items.index(item) + 1]
        )
        read.append([item[:1] for item in found.items])
        page = found.next_page or 0
    assert read == [["x"], ["y"], ["z"]]


async def test_a_page_that_ends_early_needs_redis(edge: RunningEdge) -> None:
    """By its number alone the next would skip what did not fit."""
    away = redis.connect("redis://127.0.0.1:1/0")
    services: Services = msgspec.structs.replace(edge.services, redis=away)

    async def read(window: paging.Window) -> list[str]:
        return ["x" * 100_000] * window.limit

    with pytest.raises(Unavailable):
        await paging.read_page(services, ("large",), 1, 50, read, lambda _: [1])
    await away.aclose()
