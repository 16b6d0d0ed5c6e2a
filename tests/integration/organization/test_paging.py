"""Pages by number, read by key."""

from typing import Any

import msgspec
from owners import Owner

from gateway.api import paging
from gateway.api.paging import Window
from gateway.services import Services
from schemas import redis


async def collect(tenant: Owner, per_page: int) -> list[str]:
    """All device ids, page after page."""
    found: list[str] = []
    page: int | None = 1
    while page is not None:
        answer = await tenant.call("GET", "/devices", page=page, per_page=per_page)
        assert answer["has_next_page"] == (answer["next_page"] is not None)
        found += [device["id"] for device in answer["items"]]
        page = answer["next_page"]
    return found


async def test_the_pages_together_are_the_list(acme: Owner) -> None:
    """Whatever the size of a page, the last full one included."""
    made = sorted([str(await acme.device()) for _ in range(6)])
    for per_page in (1, 3, 4, 6, 100):
        assert await collect(acme, per_page) == made


async def test_a_page_begins_behind_the_one_before_it_though_rows_went(acme: Owner) -> None:
    """By offset the fifth device would be skipped when the first is deleted between two pages."""
    made = sorted([await acme.device() for _ in range(6)])
    await acme.call("GET", "/devices", per_page=3)
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", made[0])
    second = await acme.call("GET", "/devices", per_page=3, page=2)
    assert [device["id"] for device in second["items"]] == [str(one) for one in made[3:]]


async def test_a_page_that_nobody_led_to_is_read_by_offset(acme: Owner) -> None:
    """A jump into the middle works, and one beyond the end is an empty page."""
    made = sorted([str(await acme.device()) for _ in range(5)])
    third = await acme.call("GET", "/devices", per_page=2, page=3)
    assert ([device["id"] for device in third["items"]], third["next_page"]) == (made[4:], None)
    assert (await acme.call("GET", "/devices", per_page=2, page=9))["items"] == []
    assert (await acme.call("GET", "/devices", page=1_000_001))[0] == 422


async def test_the_place_of_a_page_is_not_shared_between_lists(acme: Owner, globex: Owner) -> None:
    """Other filters, sizes and callers have places of their own."""
    made = sorted([str(await acme.device()) for _ in range(4)])
    theirs = sorted([str(await globex.device()) for _ in range(4)])
    await acme.call("GET", "/devices", per_page=3)
    for tenant, expected, query in (
        (acme, made[2:], {"per_page": 2}),
        (acme, made[3:], {"per_page": 3, "project_id": acme.project_id}),
        (globex, theirs[3:], {"per_page": 3}),
    ):
        answer = await tenant.call("GET", "/devices", page=2, **query)
        assert [device["id"] for device in answer["items"]] == expected


async def test_without_redis_pages_are_read_by_offset(edge: Any) -> None:
    """A list is a convenience: it does not fail with Redis, only its deep pages become slower."""
    away = redis.connect("redis://127.0.0.1:1/0")
    services: Services = msgspec.structs.replace(edge.services, redis=away)
    windows: list[Window] = []

    async def read(window: Window) -> list[int]:
        windows.append(window)
        return list(range(10))[window.offset :][: window.limit]

    second = await paging.read_page(services, ("numbers",), 2, 4, read, boundary=lambda number: [number])
    await away.aclose()
    assert (second.items, second.next_page) == ([4, 5, 6, 7], 3)
    assert windows == [Window(None, 4, 5)]


async def test_a_key_that_makes_no_sense_is_passed_over(edge: Any) -> None:
    """What another version left in Redis does not break a list."""
    services: Services = edge.services

    async def read(window: Window) -> list[int]:
        return list(range(10))[window.offset :][: window.limit]

    async def page(number: int) -> list[int]:
        return (await paging.read_page(services, ("numbers",), number, 4, read, boundary=lambda one: [one])).items

    await page(1)
    (key,) = await services.redis.keys("*:page:*")
    assert 0 < await services.redis.ttl(key) <= paging.REMEMBERED_S
    await services.redis.set(key, b"\xff")
    assert await page(2) == [4, 5, 6, 7]
