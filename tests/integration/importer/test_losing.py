"""How lists lose live devices, and do not here: cut, shifted, filtered, repeated, skipped, empty, or seen too often."""

from typing import Any

import pytest
from aiohttp import web
from imports import Imports
from vendors import manifest

from workers.importer import paging
from workers.importer.expressions import Items

NAMES = [f"d{n}" for n in range(7)]


def _write(imports: Imports, kind: str = "page", *, total: bool = False, changed: tuple[str, str] = ("", "")) -> None:
    assert changed[0] in manifest(kind, total=total)
    (imports.cloud.folder / "acme.toml").write_text(manifest(kind, total=total).replace(*changed))


async def _imported(imports: Imports, names: list[str]) -> str:
    imports.cloud.has(*names)
    connector = await imports.connector()
    assert (await imports.sync(connector))["created"] == len(names)
    return connector


async def _active(imports: Imports, connector: str) -> set[str]:
    return set(await imports.devices(connector, state="active", per_page=100))


# The end of a list ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ['</x>; rel="first"', '<{next}>; rel="next"'],
        ['<{next}>; rel="next"', '</x>; rel="last"'],
        ['</x>; rel="first", </y>; rel="prev"', '</z>; title="a, <b>; rel=next", <{next}>; rel="last next"'],
        ['</x>; title="<q>, \\"; rel=next"', "<{next}> ; Rel = next"],
    ],
)
async def test_the_next_page_is_found_on_whichever_line_of_the_header_it_stands(
    imports: Imports, lines: list[str]
) -> None:
    """A list that ends at the first line would lose all behind it."""
    _write(imports, "link")

    def before(request: web.Request, _: int) -> web.Response:
        if request.query.get("page") == "2":
            return web.json_response({"devices": [{"id": 2}]})
        answer = web.json_response({"devices": [{"id": 1}]})
        for line in lines:
            answer.headers.add("Link", line.replace("{next}", "/devices?page=2"))
        return answer

    imports.cloud.before = before
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["found"]) == (None, 2)


def test_a_second_relation_of_a_link_counts_for_nothing() -> None:
    """As RFC 8288 has it."""
    assert paging.next_link(['<a>; rel=prev; rel=next, <b>; rel="next"']) == "b"
    assert paging.next_link(["<unclosed; rel=next", "nothing", '<c>; title="open; rel=next']) is None


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("kind", ["page", "offset"])
@pytest.mark.parametrize(
    "items",
    [
        "devices[?kind == 'room']",
        "devices[].room",
        "sort_by(devices[?kind == 'room'], &id)",
        "devices | [?kind == 'room']",
        "map(&room, devices)[?@]",
        "(devices || none)[?kind == 'room']",
    ],
)
async def test_a_page_without_a_match_does_not_end_the_list(
    imports: Imports, items: str, kind: str, total: bool
) -> None:
    """The vendor's page does, and its rows are what is passed over and what its total counts."""
    _write(imports, kind, total=total, changed=('items = "devices"', f'items = "{items}"'))
    rows = [{"id": f"d{n}", "name": "X", "kind": "room" if n in (0, 8) else "other"} for n in range(10)]
    imports.cloud.devices = [row | {"room": row if row["kind"] == "room" else None} for row in rows]
    connector = await imports.connector()
    run = await imports.sync(connector)
    assert (run["error"], run["found"]) == (None, 2)
    assert await _active(imports, connector) == {"d0", "d8"}


# Lists that move while they are read ------------------------------------------------------------------------


def _deleting(imports: Imports, kind: str, also: dict[str, Any] | None = None, *, always: bool = False) -> Any:
    """Delete the first device while the second page is asked for, once or at every reading."""
    done: list[bool] = []

    def before(request: web.Request, _: int) -> None:
        second = request.query.get("page") == "2" if kind == "page" else request.query.get("skip") == "3"
        if second and (always or not done):
            done.append(True)
            imports.cloud.devices = imports.cloud.devices[1:] + ([also] if also else [])

    return before


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("kind", ["page", "offset"])
async def test_a_device_deleted_while_the_list_is_read_takes_none_with_it(
    imports: Imports, kind: str, total: bool
) -> None:
    """One slips through the shift; with a total the run fails, without one the list is read again."""
    _write(imports, kind, total=total)
    connector = await _imported(imports, NAMES)
    imports.cloud.before = _deleting(imports, kind)
    run = await imports.sync(connector)
    if total:
        assert "the vendor counted 6 devices and 7" in run["error"]
        run = await imports.sync(connector)
    assert (run["error"], run["created"]) == (None, 0)
    assert await _active(imports, connector) >= set(NAMES[1:])
    await imports.sync(connector)
    assert await _active(imports, connector) == set(NAMES[1:])


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("kind", ["page", "offset"])
async def test_a_device_deleted_and_one_added_take_none_with_them(imports: Imports, kind: str, total: bool) -> None:
    """The total is the same all the time, and as many different devices come."""
    _write(imports, kind, total=total)
    connector = await _imported(imports, NAMES)
    imports.cloud.before = _deleting(imports, kind, {"id": "new", "name": "New"})
    run = await imports.sync(connector)
    assert (run["error"], run["created"]) == (None, 1)
    assert await _active(imports, connector) >= {*NAMES[1:], "new"}


@pytest.mark.parametrize(
    ("expression", "answer", "found"),
    [
        ("a.b.c[].d", {"a": {"b": {"c": [{"d": 1}, {"e": 2}]}}}, ([1], 2)),
        ("a.b.c[].d", {"a": {"b": {"c": None}}}, ([], 0)),
        ("a.b.c[].d", {"a": {"b": None}}, (None, 0)),
        ("a.b.values(@)", {"a": {"b": {"x": 1, "y": None}}}, ([1, None], 2)),
        ("a[?x].b | [?y]", {"a": [{"b": {"y": 1}}, {"x": 1, "b": {"y": 1}}]}, ([{"y": 1}], 2)),
        ("[a[?x], b[?x]][]", {"a": [{"x": 1}], "b": [{"y": 1}, {"y": 2}]}, ([{"x": 1}], 3)),
        ("a[1:]", {"a": ["head", 1]}, ([1], 2)),
        ("a || b", {"a": [], "c": 1}, ([], 0)),
        ("@", [1], ([1], 1)),
        ("a", {"error": "none"}, (None, 0)),
        ("a", {"a": {"x": 1}}, (None, 1)),
    ],
)
def test_items_and_rows_of_a_page(expression: str, answer: Any, found: tuple[Any, int]) -> None:
    """What a manifest makes of a page, and how many rows the vendor has on it."""
    items = Items(expression)
    assert (items.find(answer), len(items.rows(answer))) == found


@pytest.mark.parametrize("told", [lambda n: n, float, str, lambda n: f"devices 0-2/{n}"])
@pytest.mark.parametrize("page", [1, 2])
async def test_a_total_counts_whenever_and_however_it_is_told(imports: Imports, told: Any, page: int) -> None:
    """On the first page or the last; as text, or as `Content-Range` has it."""
    _write(imports, "page", total=True)
    imports.cloud.has("one", "two", "three", "four")
    wanted = 4

    def before(request: web.Request, _: int) -> Any:
        number = int(request.query["page"])
        rows = imports.cloud.devices[number * 3 - 3 : number * 3]
        return web.json_response({"devices": rows, **({"total": told(wanted)} if number == page else {})})

    imports.cloud.before = before
    connector = await imports.connector()
    assert (await imports.sync(connector))["created"] == 4
    wanted = 5
    assert "the vendor counts 5 devices and listed 4" in (await imports.sync(connector))["error"]


@pytest.mark.parametrize("kind", ["none", "cursor"])
async def test_a_next_page_that_nobody_asks_for_excludes_nothing(imports: Imports, kind: str) -> None:
    """The manifest knows of no `Link`, but the vendor's list goes on there."""
    _write(imports, kind)
    imports.cloud.has("one", "two", "three")
    connector = await imports.connector()
    await imports.sync(connector)
    rows = [{"id": "one"}]
    headers = {"Link": '</devices?page=2>; rel="next"'}
    imports.cloud.before = lambda *_: web.json_response({"devices": rows}, headers=headers)
    run = await imports.sync(connector)
    assert (run["error"], run["excluded"]) == (None, 0)
    assert run["details"]["nothing_excluded"] == ["the vendor names a next page that the manifest does not ask for"]


@pytest.mark.parametrize("status", [202, 206])
async def test_an_answer_that_is_a_part_or_none_yet_fails_the_run(imports: Imports, status: int) -> None:
    """It looks like a list."""
    _write(imports, "none")
    imports.cloud.before = lambda *_: web.json_response({"devices": []}, status=status)
    assert str(status) in (await imports.sync(await imports.connector()))["error"]


async def test_a_total_that_is_told_once_counts(imports: Imports) -> None:
    """On the first page only, as some vendors do."""
    _write(imports, "offset", total=True)
    connector = await _imported(imports, NAMES)
    pages = {"0": NAMES[:3], "3": NAMES[4:]}

    def before(request: web.Request, _: int) -> web.Response:
        listed = [{"id": name, "name": name.title()} for name in pages.get(request.query["skip"], [])]
        return web.json_response({"devices": listed} | ({"total": 7} if request.query["skip"] == "0" else {}))

    imports.cloud.before = before
    assert "the vendor counts 7 devices and listed 6" in (await imports.sync(connector))["error"]
    assert await _active(imports, connector) == set(NAMES)


# Repeated and skipped items ---------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [False, True])
async def test_a_duplicate_hides_no_hole(imports: Imports, total: bool) -> None:
    """Unstable order: one device comes on two pages, another on none. The number of items is the total."""
    _write(imports, "page", total=total)
    connector = await _imported(imports, NAMES)
    imports.cloud.has(*NAMES[:3], NAMES[2], *NAMES[4:])
    run = await imports.sync(connector)
    assert (run["error"] is None, run["excluded"]) == (not total, 0)
    if total:
        assert "the vendor counts 7 devices and listed 6" in run["error"]
    else:
        assert run["details"]["nothing_excluded"] == ["the vendor lists devices on several pages"]
    assert await _active(imports, connector) == set(NAMES)


async def test_a_duplicate_on_one_page_hides_no_hole(imports: Imports) -> None:
    """The vendor's own rows are two there: the list counts, but nothing is gone."""
    _write(imports, "none", total=True)
    connector = await _imported(imports, NAMES)
    imports.cloud.has(*NAMES[:6], NAMES[5])
    run = await imports.sync(connector)
    assert (run["error"], run["excluded"], run["skipped"]) == (None, 0, 1)
    assert await _active(imports, connector) == set(NAMES)


@pytest.mark.parametrize(
    "item",
    [
        {"id": "d3", "name": "x" * 256},
        {"name": "No id"},
        {"id": None, "name": "D3"},
        {"id": {"a": 1}, "name": "D3"},
        {"id": "", "name": "D3"},
        {"id": "i" * 256, "name": "D3"},
        None,
        "d3",
    ],
)
@pytest.mark.parametrize("total", [False, True])
async def test_a_known_device_whose_item_is_skipped_stays_as_it_was(imports: Imports, item: Any, total: bool) -> None:
    """It is not missing: the vendor lists it, only not as a device should be."""
    _write(imports, "page", total=total)
    connector = await _imported(imports, NAMES)
    was = await imports.devices(connector)
    imports.cloud.devices[3] = item
    run = await imports.sync(connector)
    assert (run["error"], run["excluded"], run["skipped"]) == (None, 0, 1)
    assert await imports.devices(connector) == was


async def test_a_device_that_is_gone_while_another_is_skipped_is_excluded(imports: Imports) -> None:
    """The one whose item says which it is stays; the rest goes on."""
    connector = await _imported(imports, NAMES)
    imports.cloud.has(*NAMES[:6])
    imports.cloud.devices[3]["name"] = "x" * 256
    assert (await imports.sync(connector))["excluded"] == 1
    assert await _active(imports, connector) == set(NAMES[:6])


@pytest.mark.parametrize("skipped", [9, 10, 60])
async def test_many_skips_hold(imports: Imports, skipped: int) -> None:
    """Ten, if they are more than fifteen in a hundred, are a change of the vendor's and not of devices."""
    names = [f"d{n:02}" for n in range(60)]
    connector = await _imported(imports, names)
    for device in imports.cloud.devices[:skipped]:
        device["name"] = "x" * 256
    run = await imports.sync(connector)
    assert (run["held"], run["skipped"], run["excluded"]) == (skipped > 9, skipped, 0)
    assert await _active(imports, connector) == set(names)
    if skipped > 9:
        assert f"{skipped} of the 60 items" in (await imports.shown(connector))["error"] or skipped == 60


async def test_a_list_of_which_nothing_can_be_imported_is_held_at_once(imports: Imports) -> None:
    """The first one too: an expression of the manifest is wrong."""
    _write(imports, "page", changed=('id = "id"', 'id = "uuid"'))
    imports.cloud.has(*NAMES)
    connector = await imports.connector()
    assert (await imports.sync(connector))["held"]
    assert "7 of the 7 items" in (await imports.shown(connector))["error"]


# Holds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [0, 3])
async def test_lists_that_agree_within_moments_are_one(imports: Imports, minutes: int) -> None:
    """Three manual syncs are one failure seen three times."""
    names = [f"d{n:02}" for n in range(60)]
    connector = await _imported(imports, names)
    imports.cloud.has(*names[:30])
    for _ in range(4):
        assert (await imports.sync(connector))["held"]
        imports.clock.move(minutes=minutes)
    imports.clock.move(minutes=12)
    assert (await imports.sync(connector))["held"]
    imports.clock.move(minutes=12)
    run = await imports.sync(connector)
    assert (run["held"], run["excluded"]) == (False, 30)


@pytest.mark.parametrize("count", [1, 2, 9, 60])
@pytest.mark.parametrize("left", [[], ["another"], [f"n{n}" for n in range(60)]])
async def test_a_list_that_takes_all_waits_for_a_person(imports: Imports, count: int, left: list[str]) -> None:
    """However few they are and however often it comes: empty, or with none of those that there were."""
    names = [f"d{n:02}" for n in range(count)]
    connector = await _imported(imports, names)
    imports.cloud.has(*left)
    for _ in range(5):
        assert (await imports.sync(connector))["held"]
        imports.clock.move(hours=1)
    assert await _active(imports, connector) == set(names)
    await imports.acme.call("POST", f"/connectors/{connector}/confirm")
    run = await imports.sync(connector)
    assert (run["held"], run["excluded"], run["created"]) == (False, count, len(left))


@pytest.mark.parametrize("other", [[], ["d00", "d01"], ["d01"], ["d00", "new"]])
async def test_a_confirmation_is_for_the_list_that_was_seen(imports: Imports, other: list[str]) -> None:
    """Another list is held again, though it excludes as many or fewer; and so is the first, when it comes back."""
    names = [f"d{n:02}" for n in range(30)]
    connector = await _imported(imports, names)
    imports.cloud.has("d00")
    assert (await imports.sync(connector))["held"]
    await imports.acme.call("POST", f"/connectors/{connector}/confirm")
    imports.cloud.has(*other)
    assert (await imports.sync(connector))["held"]
    imports.cloud.has("d00")
    assert (await imports.sync(connector))["held"]
    await imports.acme.call("POST", f"/connectors/{connector}/confirm")
    assert (await imports.sync(connector))["excluded"] == 29


# Long lists -------------------------------------------------------------------------------------------------


async def test_pages_that_only_look_alike_are_different(imports: Imports) -> None:
    """Their CRC32 is the same: a digest of so few bits refuses honest long lists."""
    _write(imports, "page", changed=("size = 3", "size = 1"))
    # crc32(b'[{"id":"plumless"}]') == crc32(b'[{"id":"buckeroo"}]')
    imports.cloud.devices = [{"id": "plumless"}, {"id": "buckeroo"}]
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["created"]) == (None, 2)
