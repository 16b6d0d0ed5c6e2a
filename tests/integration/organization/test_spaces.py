"""The tree of spaces: paths that follow names and parents, and what devices are told."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from owners import Owner

from gateway.stores.tenants import space_tree
from gateway.stores.tenants.spaces import DEPTH_MAX, PARENT_UNKNOWN, PATH_TAKEN, PATH_TOO_LONG
from schemas import ids, keys


async def space(acme: Owner, name: str, parent: dict[str, Any] | None = None, **members: Any) -> Any:
    body = {"project_id": str(acme.project_id), "name": name} | members
    return await acme.call("POST", "/spaces", body | ({} if parent is None else {"parent_id": parent["id"]}))


async def paths(acme: Owner) -> list[str]:
    listed = await acme.call("GET", "/spaces", project_id=acme.project_id, per_page=100)
    return [one["full_path"] for one in listed["items"]]


async def test_a_space_shows_what_it_was_made_with(acme: Owner) -> None:
    """Create and read agree; defaults are UTC, Celsius, no maintenance, no location."""
    plain = await space(acme, "Plain")
    assert await acme.call("GET", f"/spaces/{plain['id']}") == plain
    assert plain.pop("created_at")
    assert plain.pop("id")
    assert plain == {
        "project_id": str(acme.project_id),
        "parent_id": None,
        "name": "Plain",
        "full_path": "Plain",
        "latitude": None,
        "longitude": None,
        "location_name": None,
        "time_zone": "UTC",
        "temperature_units": "celsius",
        "maintenance": False,
        "config": {},
    }
    full = {"latitude": 59.9, "longitude": 10.7, "location_name": "Oslo", "time_zone": "Europe/Oslo"}
    full |= {"temperature_units": "fahrenheit", "maintenance": True, "config": {"desks": 4}}
    assert full.items() <= (await space(acme, "Full", **full)).items()


async def test_renaming_rewrites_the_paths_of_the_whole_subtree(acme: Owner) -> None:
    """Names with the same beginning elsewhere stay untouched."""
    top = await space(acme, "A_%")
    below = await space(acme, "B", top)
    await space(acme, "C", below)
    await space(acme, "B", await space(acme, "A_%2"))
    renamed = await acme.call("PATCH", f"/spaces/{top['id']}", {"name": "Z"})
    assert renamed["full_path"] == "Z"
    assert await paths(acme) == ["A_%2", "A_%2/B", "Hall", "Z", "Z/B", "Z/B/C"]


async def test_a_space_moves_with_all_below_it_but_never_into_itself(acme: Owner, globex: Owner) -> None:
    """The tree stays a tree, in its own project."""
    a = await space(acme, "A")
    b = await space(acme, "B", a)
    c = await space(acme, "C", b)
    d = await space(acme, "D")
    moved = await acme.call("PATCH", f"/spaces/{b['id']}", {"parent_id": d["id"], "name": "B2"})
    assert (moved["full_path"], moved["parent_id"]) == ("D/B2", d["id"])
    assert (await acme.call("GET", f"/spaces/{c['id']}"))["full_path"] == "D/B2/C"
    for parent in (d, b, c):
        answer = await acme.call("PATCH", f"/spaces/{d['id']}", {"parent_id": parent["id"]})
        assert answer == (422, "Parent id: a space cannot be moved into itself")
    for unknown in (globex.space_id, ids.new_id()):
        answer = await acme.call("PATCH", f"/spaces/{d['id']}", {"parent_id": str(unknown)})
        assert answer == (422, PARENT_UNKNOWN)
    assert (await acme.call("PATCH", f"/spaces/{b['id']}", {"parent_id": None}))["full_path"] == "B2"
    assert await paths(acme) == ["A", "B2", "B2/C", "D", "Hall"]


async def test_a_place_holds_a_name_once(acme: Owner) -> None:
    """Create, rename and move refuse a path that is taken."""
    top = await space(acme, "Top")
    below = await space(acme, "Hall", top)
    assert await space(acme, "Hall") == (422, PATH_TAKEN)
    assert await acme.call("PATCH", f"/spaces/{top['id']}", {"name": "Hall"}) == (422, PATH_TAKEN)
    assert await acme.call("PATCH", f"/spaces/{below['id']}", {"parent_id": None}) == (422, PATH_TAKEN)
    assert await paths(acme) == ["Hall", "Top", "Top/Hall"]


async def test_paths_have_a_length_and_a_depth(acme: Owner) -> None:
    """Also those that a rename or a move would make."""
    names = ["é" * 240] * 4
    deep = await acme.call("POST", "/spaces/find_or_create", {"project_id": str(acme.project_id), "path": names})
    assert await space(acme, "x" * 255, deep) == (422, PATH_TOO_LONG)
    root = next(one for one in (await acme.call("GET", "/spaces"))["items"] if one["name"] == names[0])
    assert await acme.call("PATCH", f"/spaces/{root['id']}", {"name": "\U0001f600" * 255}) == (422, PATH_TOO_LONG)
    chain = await acme.call(
        "POST", "/spaces/find_or_create", {"project_id": str(acme.project_id), "path": ["n"] * DEPTH_MAX}
    )
    assert await space(acme, "n", chain) == (422, f"Spaces are at most {DEPTH_MAX} deep")
    top = next(one for one in (await acme.call("GET", "/spaces"))["items"] if one["full_path"] == "n")
    answer = await acme.call("PATCH", f"/spaces/{top['id']}", {"parent_id": str(acme.space_id)})
    assert answer == (422, f"Spaces are at most {DEPTH_MAX} deep")


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "Name"),
    ({"name": "a/b"}, "Name"),
    ({"name": "a\0b"}, "Name"),
    ({"name": "x" * 256}, "Name"),
    ({"name": "x", "latitude": 91}, "Latitude"),
    ({"name": "x", "latitude": 1}, "Latitude and longitude go together"),
    ({"name": "x", "time_zone": "Mars/Base"}, "Time zone"),
    ({"name": "x", "time_zone": "Europe"}, "Time zone"),
    ({"name": "x", "time_zone": "localtime"}, "Time zone"),
    ({"name": "x", "time_zone": "Factory"}, "Time zone"),
    ({"name": "x", "time_zone": "posixrules"}, "Time zone"),
    ({"name": "x", "time_zone": "right/Europe/Oslo"}, "Time zone"),
    ({"name": "x", "time_zone": "europe/oslo"}, "Time zone"),
    ({"name": "x", "time_zone": "../../etc/passwd"}, "Time zone"),
    ({"name": "x", "temperature_units": "kelvin"}, "Temperature units"),
    ({"name": "x", "maintenance": 1}, "Maintenance"),
    ({"name": "x", "parent_id": "x"}, "Parent id"),
    ({"name": "x", "config": {"x": "y" * 16_384}}, "Config must be at most 16384 bytes"),
    ({"name": "x", "config": 1}, "Config"),
]


async def test_a_space_that_does_not_fit_is_422(acme: Owner) -> None:
    """The refusal names the member."""
    for body, text in MALFORMED:
        status, error = await acme.call("POST", "/spaces", {"project_id": str(acme.project_id)} | body)
        assert (status, error[: len(text)]) == (422, text), body
    assert await paths(acme) == ["Hall"]


async def test_find_or_create_makes_what_is_missing_and_finds_the_rest(acme: Owner) -> None:
    """The path is a list of names, or the names joined by /."""
    made = await acme.call(
        "POST", "/spaces/find_or_create", {"project_id": str(acme.project_id), "path": ["Hall", "Room", "Shelf"]}
    )
    assert made["full_path"] == "Hall/Room/Shelf"
    found = await acme.call(
        "POST", "/spaces/find_or_create", {"project_id": str(acme.project_id), "path": "Hall/Room/Shelf"}
    )
    assert found == made
    assert await paths(acme) == ["Hall", "Hall/Room", "Hall/Room/Shelf"]
    body = {"name": "Attic/Box", "parent_id": made["id"], "config": {"a": 1}}
    new = await acme.call("POST", "/spaces/find_or_create", body)
    assert (new["full_path"], new["config"]) == ("Hall/Room/Shelf/Attic/Box", {"a": 1})
    assert (await acme.call("GET", f"/spaces/{new['parent_id']}"))["config"] == {}
    assert await acme.call("POST", "/spaces/find_or_create", body | {"config": {"b": 2}}) == new
    for path in ([], [""], "", "a//b", "/a", ["a/b"], ["x"] * (DEPTH_MAX + 1), "a/\0", 7, "x/" * 999 + "x"):
        body = {"project_id": str(acme.project_id), "path": path}
        assert (await acme.call("POST", "/spaces/find_or_create", body))[0] == 422, path


async def test_the_project_of_a_space_need_not_be_named(acme: Owner) -> None:
    """It is the parent's, or the organization's only one; where there are several it must be."""
    made = await acme.call("POST", "/spaces", {"name": "Wing"})
    assert made["project_id"] == str(acme.project_id)
    room = await acme.call("POST", "/spaces/find_or_create", {"name": "Wing/Room"})
    assert room["parent_id"] == made["id"]
    project = await acme.call("POST", "/projects", {"name": "Second"})
    several = (422, "Project id can't be blank: the organization has 2 projects")
    assert await acme.call("POST", "/spaces", {"name": "Hut"}) == several
    assert await acme.call("POST", "/spaces/find_or_create", {"name": "Hut"}) == several
    assert (await acme.call("POST", "/spaces", {"name": "Desk", "parent_id": room["id"]}))[
        "full_path"
    ] == "Wing/Room/Desk"
    for names in ({"name": "Row/Desk"}, {"path": ["Row", "Desk"]}):
        found = await acme.call("POST", "/spaces/find_or_create", {"parent_id": room["id"], **names})
        assert found["full_path"] == "Wing/Room/Row/Desk"
    for wrong in ({"parent_id": str(ids.new_id())}, {"parent_id": room["id"], "project_id": project["id"]}):
        assert (await acme.call("POST", "/spaces", {"name": "x"} | wrong))[0] == 422, wrong
        assert (await acme.call("POST", "/spaces/find_or_create", {"name": "x"} | wrong))[0] == 422, wrong
    for wrong in ({}, {"name": "a", "path": "a"}):
        assert await acme.call("POST", "/spaces/find_or_create", wrong) == (422, "Give either path or name")


async def test_spaces_are_found_by_id_by_name_and_by_part_of_their_path(acme: Owner) -> None:
    """All that are given must hold; capitals make no difference in paths."""
    await acme.call("POST", "/spaces/find_or_create", {"name": "Hall/Room/Shelf"})
    shelf = await acme.call("POST", "/spaces/find_or_create", {"name": "Annex/Shelf"})

    async def found(**query: Any) -> list[str]:
        return [one["full_path"] for one in (await acme.call("GET", "/spaces", **query))["items"]]

    assert await found(name="Shelf") == ["Annex/Shelf", "Hall/Room/Shelf"]
    assert await found(path_includes="ll/ro") == ["Hall/Room", "Hall/Room/Shelf"]
    assert await found(path_includes="%") == []
    assert await found(id=shelf["id"]) == ["Annex/Shelf"]
    assert await found(id=shelf["id"], name="Room") == []


async def test_spaces_are_found_by_what_they_are_right_below_and_by_when_they_were_made(acme: Owner) -> None:
    """From one moment on, up to another one; times as clients write them."""
    top = await space(acme, "Top")
    below = [await space(acme, name, top) for name in "BA"]
    await space(acme, "Deep", below[0])
    for age, one in ((3, top), (2, below[0]), (1, below[1])):
        made = datetime.now(UTC) - timedelta(days=age)
        await acme.pool.execute("UPDATE spaces SET created_at = $2 WHERE id = $1::text::uuid", one["id"], made)

    async def found(**query: Any) -> list[str]:
        return [one["full_path"] for one in (await acme.call("GET", "/spaces", **query))["items"]]

    assert await found(parent_id=top["id"]) == ["Top/A", "Top/B"]
    assert await found(parent_id=top["id"], name="A") == ["Top/A"]
    assert await found(parent_id=ids.new_id()) == []
    day = datetime.now(UTC) - timedelta(days=1, hours=12)
    assert await found(created_before=day.timestamp()) == ["Top", "Top/B"]
    assert await found(created_after=day.isoformat(), parent_id=top["id"]) == ["Top/A"]
    first = await acme.call("GET", "/spaces", parent_id=top["id"], per_page=1)
    second = await acme.call("GET", "/spaces", parent_id=top["id"], per_page=1, page=first["next_page"])
    assert [one["full_path"] for page in (first, second) for one in page["items"]] == ["Top/A", "Top/B"]
    for wrong in ({"created_after": "spring"}, {"created_before": 1e300}, {"parent_id": "x"}):
        assert (await acme.call("GET", "/spaces", **wrong))[0] == 422


async def test_a_space_changes_by_put_as_by_patch(acme: Owner) -> None:
    """Members that are absent stay."""
    changed = await acme.call("PUT", f"/spaces/{acme.space_id}", {"name": "Lobby", "config": {"a": [1]}})
    assert (changed["name"], changed["config"], changed["time_zone"]) == ("Lobby", {"a": [1]}, "UTC")
    assert (await acme.call("PUT", f"/spaces/{acme.space_id}", {"maintenance": True}))["config"] == {"a": [1]}


async def test_those_who_look_for_the_same_missing_path_at_once_make_it_once(acme: Owner) -> None:
    """Ten callers, two overlapping paths, one space for each name."""
    answers = await asyncio.gather(
        *(
            acme.call(
                "POST",
                "/spaces/find_or_create",
                {"project_id": str(acme.project_id), "path": ["A", "B", "C" if n % 2 else "D"]},
            )
            for n in range(10)
        )
    )
    assert {answer["full_path"] for answer in answers} == {"A/B/C", "A/B/D"}
    assert len({answer["id"] for answer in answers}) == 2
    assert await paths(acme) == ["A", "A/B", "A/B/C", "A/B/D", "Hall"]


async def test_devices_in_a_space_are_told_of_what_they_see_of_it(edge: Any, acme: Owner) -> None:
    """A difference counts up space_data_version of those in it; no difference, and places elsewhere, count nothing."""
    below = await space(acme, "Below", {"id": str(acme.space_id)})
    here, deep = await acme.device(), await acme.device(space_id=below["id"])
    path = f"/spaces/{acme.space_id}"

    async def versions() -> list[int]:
        return [(await acme.row(device_id))["space_data_version"] for device_id in (here, deep)]

    changes: list[dict[str, Any]] = [
        {"name": "Foyer"},
        {"latitude": 1, "longitude": 2},
        {"location_name": "Oslo"},
        {"time_zone": "Europe/Oslo"},
        {"temperature_units": "fahrenheit"},
        {"maintenance": True},
    ]
    for number, change in enumerate(changes, 2):
        await acme.call("PATCH", path, change)
        assert await versions() == [number, 1]
        await acme.call("PATCH", path, change)
        assert await versions() == [number, 1]
    shard = (await acme.row(here))["shard"]
    assert b'"space_data_version":7' in await edge.services.redis.hget(keys.reply(shard), str(here))
    assert (await acme.call("PATCH", path, {"latitude": None}))[0] == 422
    cleared = await acme.call("PATCH", path, {"latitude": None, "longitude": None, "location_name": None})
    assert (cleared["latitude"], cleared["location_name"], await versions()) == (None, None, [8, 1])
    await acme.call("PATCH", path, {"parent_id": (await space(acme, "Top"))["id"]})
    assert await versions() == [8, 1]


async def test_only_an_empty_space_can_be_deleted(acme: Owner) -> None:
    """Spaces and devices in it keep it; what is left of deleted devices does not."""
    below = await space(acme, "Below", {"id": str(acme.space_id)})
    device_id = await acme.device()
    path = f"/spaces/{acme.space_id}"
    assert await acme.call("DELETE", path) == (422, "Space still has spaces in it")
    await acme.call("DELETE", f"/spaces/{below['id']}")
    assert await acme.call("DELETE", path) == (422, "Space still has devices in it")
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", device_id)
    assert await acme.call("DELETE", path) == {"success": True}
    assert await acme.call("GET", path) == (404, "Space not found")
    assert (await acme.row(device_id))["deleted_at"] is not None


async def test_a_search_looks_at_so_many_spaces_a_page_and_leads_on(
    acme: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may hold few of them, or none, and not be the last; all pages together are what fits."""
    monkeypatch.setattr(space_tree, "EXAMINED_MAX", 3)
    for n in range(14):
        await space(acme, f"Lab {n:02}" if n in (5, 6, 7, 13) else f"Room {n:02}")
    found: list[str] = []
    sizes, page = [], 1
    while page:
        answer = await acme.call("GET", "/spaces", path_includes="om 1", per_page=2, page=page)
        found += [one["name"] for one in answer["items"]]
        sizes.append(len(answer["items"]))
        page = answer["next_page"]
    assert found == ["Room 10", "Room 11", "Room 12"]
    assert sizes[0] == 0
