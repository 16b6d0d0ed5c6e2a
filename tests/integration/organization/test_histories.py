"""Telemetry history: range, filters, order, pages."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from owners import Owner, ago

from gateway.services import Services
from schemas import ids

BASE = ago(hours=2).replace(microsecond=0)


def epoch(moment: datetime) -> int:
    return int(moment.timestamp())


async def test_a_message_shows_what_the_device_sent_and_when(acme: Owner) -> None:
    """By default the last day is read; the event id is the one of the log."""
    device_id = await acme.device()
    sent = BASE + timedelta(microseconds=123456)
    await acme.message(device_id, sent, status="online", telemetries={"t": 1.5, "on": True}, message="hello")
    (item,) = (await acme.call("GET", "/devices/histories"))["items"]
    row = await acme.pool.fetchrow("SELECT * FROM events")
    assert item == {
        "event_id": ids.event_id(int(row["stored_at"].timestamp()), row["shard"], row["seq"]),
        "device_id": str(device_id),
        "timestamp": sent.isoformat().replace("+00:00", "Z"),
        "stored_at": row["stored_at"].isoformat().replace("+00:00", "Z"),
        "status": "online",
        "telemetries": {"t": 1.5, "on": True},
        "message": "hello",
    }


async def test_filters_narrow_the_list(acme: Owner, globex: Owner) -> None:
    """By device, by space with its subtree, by status; begin included, end excluded; never another tenant's."""
    side = await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": "Side"})
    shelf = await acme.call(
        "POST", "/spaces", {"project_id": str(acme.project_id), "name": "Shelf", "parent_id": side["id"]}
    )
    here, there = await acme.device(), await acme.device(space_id=shelf["id"])
    await acme.message(here, BASE, status="online", telemetries={"n": 1})
    await acme.message(there, BASE + timedelta(seconds=1), status="offline", telemetries={"n": 2, "nul": "\0\\u0000"})
    await acme.message(here, BASE + timedelta(seconds=2), telemetries={"n": 3, "status": "offline"})
    foreign = await globex.device()
    await globex.message(foreign, BASE, telemetries={"n": 4})
    unclaimed = await acme.device(claimed=False)
    await acme.message(unclaimed, BASE, telemetries={"n": 5})

    async def numbers(**query: Any) -> list[int]:
        answer = await acme.call("GET", "/devices/histories", **query)
        return [item["telemetries"]["n"] for item in answer["items"]]

    assert await numbers() == [3, 2, 1]
    assert await numbers(device_id=here) == [3, 1]
    assert await numbers(space_id=side["id"]) == [2]
    assert await numbers(space_id=side["id"], device_id=here) == []
    assert await numbers(status="offline") == [2]
    assert await numbers(status="offline", device_id=there) == [2]
    assert await numbers(since=epoch(BASE), until=epoch(BASE) + 2) == [2, 1]
    assert await acme.call("GET", "/devices/histories", device_id=foreign) == (404, "Device not found")
    assert await acme.call("GET", "/devices/histories", device_id=ids.new_id()) == (404, "Device not found")
    assert await acme.call("GET", "/devices/histories", space_id=globex.space_id) == (404, "Space not found")
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", here)
    assert await numbers(device_id=here) == [3, 1]


BAD_RANGES: list[tuple[dict[str, Any], str]] = [
    ({"from": 2_000_000, "to": 2_000_000}, "From must be before to"),
    ({"from": 0, "to": 31 * 86400 + 1}, "From and to are at most 31 days apart"),
    ({"from": 0}, "From and to are at most 31 days apart"),
    ({"from": 32_000_000_000}, "From must be before to"),
    ({"from": -1}, "From must be seconds since 1970, or a time in ISO 8601"),
    ({"to": "9" * 30}, "To must be seconds since 1970"),
    ({"from": "yesterday"}, "From must be"),
    ({"from": "nan"}, "From must be"),
    ({"from": "0001-01-01T00:00:00Z"}, "From must be"),
    ({"to": "9999-12-31T23:59:59-12:00"}, "To must be"),
    ({"from": ""}, "From must be"),
    ({"device": "x"}, "Query parameter"),
    ({"per_page": 1001}, "Per page: "),
    ({"status": "lost"}, "Status: "),
    ({"device_id": "x"}, "Device id: "),
]


async def test_times_are_taken_as_clients_print_them(acme: Owner) -> None:
    """Seconds or milliseconds since 1970, ISO 8601 with any offset or none (UTC), also with a plus sign not encoded."""
    device_id = await acme.device(name="Door")
    await acme.message(device_id, BASE, telemetries={"n": 1})
    east = (BASE + timedelta(hours=5, minutes=30)).replace(tzinfo=None).isoformat()
    for since in (
        *(epoch(BASE), epoch(BASE) * 1000, f"{epoch(BASE)}.0", BASE.isoformat(), BASE.isoformat().replace("+", " ")),
        *(BASE.strftime("%Y-%m-%dT%H:%M:%SZ"), BASE.strftime("%Y-%m-%d %H:%M:%S"), BASE.strftime("%Y%m%dT%H%M%SZ")),
        *(f"{east}+05:30", f"{east} 05:30", f"{east}+0530"),
    ):
        found = await acme.call("GET", "/devices/histories", since=since)
        assert [item["telemetries"] for item in found["items"]] == [{"n": 1}], since
        assert (await acme.call("GET", "/devices/histories", until=since))["items"] == [], since
        assert (await acme.partner("GET", f"/devices/{device_id}/history", since=since))["items"] != [], since


async def test_messages_are_found_by_the_name_that_their_device_has_now(acme: Owner) -> None:
    """The whole name; of nobody else's device."""
    for name in ("Door", "Door 2"):
        await acme.message(await acme.device(name=name), BASE, telemetries={"of": name})

    async def found(name: str) -> list[str]:
        items = (await acme.call("GET", "/devices/histories", name=name))["items"]
        return [item["telemetries"]["of"] for item in items]

    assert (await found("Door"), await found("Door 2"), await found("Gate")) == (["Door"], ["Door 2"], [])


async def test_a_range_that_does_not_fit_is_422(acme: Owner) -> None:
    """At most 31 days, at most 1,000 a page."""
    for query, text in BAD_RANGES:
        status, error = await acme.call("GET", "/devices/histories", **query)
        assert (status, error[: len(text)]) == (400 if "parameter" in text else 422, text), query
    answer = await acme.call("GET", "/devices/histories", **{"from": 0, "to": 31 * 86400})
    assert answer == {"items": [], "has_next_page": False, "next_page": None}


@pytest.mark.parametrize("remembered", [True, False])
async def test_pages_hold_every_message_once_also_among_equals(edge: Any, acme: Owner, remembered: bool) -> None:
    """Messages of the same time keep an order, whether pages are found by key or by offset."""
    services: Services = edge.services
    devices = [await acme.device() for _ in range(3)]
    for n in range(11):
        await acme.message(devices[n % 3], BASE + timedelta(seconds=n // 4), telemetries={"n": n})
    seen: list[int] = []
    page: int | None = 1
    while page is not None:
        if not remembered:
            await services.redis.flushall()
        answer = await acme.call("GET", "/devices/histories", page=page, per_page=2)
        seen += [item["telemetries"]["n"] for item in answer["items"]]
        page = answer["next_page"]
    assert sorted(seen) == list(range(11))
    assert [n // 4 for n in seen] == sorted((n // 4 for n in seen), reverse=True)


async def test_a_reader_in_mid_list_is_not_disturbed_by_new_messages(acme: Owner) -> None:
    """Page two begins behind what page one showed, however much came in between."""
    device_id = await acme.device()
    for n in range(4):
        await acme.message(device_id, BASE + timedelta(seconds=n), telemetries={"n": n})
    query = {"per_page": 2, "device_id": device_id, "since": epoch(BASE), "until": epoch(datetime.now(UTC))}
    first = await acme.call("GET", "/devices/histories", **query)
    for n in range(4, 8):
        await acme.message(device_id, BASE + timedelta(seconds=n), telemetries={"n": n})
    second = await acme.call("GET", "/devices/histories", page=2, **query)
    assert [item["telemetries"]["n"] for item in first["items"] + second["items"]] == [3, 2, 1, 0]
