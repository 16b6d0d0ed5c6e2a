"""What the vendor says of a device is followed: its numbers, its new ids, its place, and not what it stops saying."""

from typing import Any

import pytest
from imports import Imports
from vendors import manifest


async def _numbers(imports: Imports, connector: str) -> dict[str, Any]:
    rows = await imports.pool.fetch(
        """SELECT c.vendor_id, d.sn FROM cloud_devices c JOIN devices d ON d.id = c.device_id
            WHERE connector_id = $1 AND d.deleted_at IS NULL""",
        connector,
    )
    return {row["vendor_id"]: row["sn"] for row in rows}


async def _listed(imports: Imports, connector: str, **serials: Any) -> dict[str, Any]:
    """Sync a list of devices with these serial numbers; the run."""
    imports.cloud.devices = [{"id": name, "name": name, "serial": serial} for name, serial in serials.items()]
    return await imports.sync(connector)


# Serial numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then", "found"),
    [
        ({"a": None, "b": "2"}, {"a": "1", "b": "2"}, {"a": "1", "b": "2"}),
        ({"a": "1", "b": "2"}, {"a": "3", "b": "2"}, {"a": "3", "b": "2"}),
        ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "2", "b": "1"}),
        ({"a": "1", "b": "2", "c": "3"}, {"a": "2", "b": "3", "c": "1"}, {"a": "2", "b": "3", "c": "1"}),
        ({"a": "1", "b": "2"}, {"a": "1", "b": "1"}, {"a": "1", "b": None}),
        ({"a": "1", "b": "2"}, {"a": "1", "b": None}, {"a": "1", "b": "2"}),
        ({"a": "1"}, {"a": "2", "new": "1"}, {"a": "2", "new": "1"}),
        ({"a": "1", "b": None}, {"a": "9", "b": "9"}, {"a": "9", "b": None}),
        ({"a": " 1 "}, {"a": 7}, {"a": "7"}),
    ],
)
async def test_serial_numbers_follow_the_vendors(
    imports: Imports, first: dict[str, Any], then: dict[str, Any], found: dict[str, Any]
) -> None:
    """Set later, changed, exchanged; one that another device has is nobody else's."""
    connector = await imports.connector()
    await _listed(imports, connector, **first)
    run = await _listed(imports, connector, **then)
    assert run["error"] is None
    assert await _numbers(imports, connector) == found


# New ids ----------------------------------------------------------------------------------------------------


OTHERS = {f"d{n}": f"S{n}" for n in range(5)}


async def test_a_number_that_one_device_gives_up_goes_to_the_one_that_had_to_do_without(imports: Imports) -> None:
    """Two had the same; the vendor's list of the second is as it was."""
    imports.cloud.has("one", "two", serial="S")
    connector = await imports.connector()
    await imports.sync(connector)
    imports.cloud.devices[0]["serial"] = "T"
    await imports.sync(connector)
    rows = await imports.pool.fetch("SELECT name, sn FROM devices ORDER BY name")
    assert [tuple(row) for row in rows] == [("One", "T"), ("Two", "S")]


async def test_a_unit_that_is_enrolled_again_is_the_same_device(imports: Imports) -> None:
    """Same serial number, the old id is gone: it goes on with its history, and the run says so."""
    connector = await imports.connector()
    await _listed(imports, connector, old="X1", **OTHERS)
    device_id = (await imports.devices(connector))["old"]["device_id"]
    await imports.outbox()
    run = await _listed(imports, connector, new="X1", **OTHERS)
    assert (run["created"], run["excluded"], run["reenrolled"]) == (0, 0, 1)
    [told] = run["details"]["reenrolled"]
    assert (told["vendor_id"], told["was"], told["serial"]) == ("new", "old", "X1")
    devices = await imports.devices(connector)
    assert (devices["new"]["device_id"], "old" in devices) == (device_id, False)
    device = await imports.acme.call("GET", f"/devices/{device_id}")
    assert (device["sn"], device["name"]) == ("X1", "new")
    assert {kind for kind, _ in await imports.outbox()} == {"labelsChanged"}
    assert (await _listed(imports, connector, new="X1", **OTHERS))["reenrolled"] == 0


async def test_a_unit_that_was_missing_for_a_while_comes_back_under_a_new_id(imports: Imports) -> None:
    connector = await imports.connector()
    await _listed(imports, connector, old="X1", **OTHERS)
    device_id = (await imports.devices(connector))["old"]["device_id"]
    assert (await _listed(imports, connector, **OTHERS))["excluded"] == 1
    run = await _listed(imports, connector, new="X1", **OTHERS)
    assert (run["created"], run["reenrolled"], run["restored"]) == (0, 1, 1)
    assert (await imports.devices(connector, state="active"))["new"]["device_id"] == device_id


async def test_a_unit_that_a_user_deleted_stays_away_under_a_new_id_too(imports: Imports) -> None:
    connector = await imports.connector()
    await _listed(imports, connector, old="X1", **OTHERS)
    await imports.acme.call("DELETE", f"/devices/{(await imports.devices(connector))['old']['device_id']}")
    run = await _listed(imports, connector, new="X1", **OTHERS)
    assert run["created"] == 0
    assert (await imports.devices(connector))["new"]["reason"] == "user_deleted"


@pytest.mark.parametrize(
    ("gone", "new"),
    [
        ({"a": "X", "b": "X"}, {"c": "X"}),
        ({"a": "X"}, {"b": "X", "c": "X"}),
        ({"a": "X"}, {"b": "S1"}),
        ({"a": None}, {"b": None}),
        ({"a": "X"}, {"b": "Y"}),
        ({"a": "X"}, {"A": "Y"}),
    ],
)
async def test_what_is_in_doubt_is_another_device(imports: Imports, gone: dict[str, Any], new: dict[str, Any]) -> None:
    """Two of one number, a number that a listed device has, none at all, another one."""
    connector = await imports.connector()
    await _listed(imports, connector, **gone, **OTHERS)
    run = await _listed(imports, connector, **new, **OTHERS)
    assert (run["reenrolled"], run["created"], run["excluded"]) == (0, len(new), len(gone))


@pytest.mark.parametrize("serials", [True, False])
@pytest.mark.parametrize("count", [1, 9, 60])
async def test_ids_in_another_case_are_held_and_then_the_same_devices(
    imports: Imports, count: int, serials: bool
) -> None:
    """None is excluded and made anew."""
    names = [f"unit{n}" for n in range(count)]
    connector = await imports.connector()
    await _listed(imports, connector, **{name: name if serials else None for name in names})
    was = await imports.devices(connector, per_page=100)
    run = await _listed(imports, connector, **{name.upper(): name if serials else None for name in names})
    assert (run["held"], await imports.devices(connector, per_page=100)) == (True, was)
    shown = await imports.shown(connector)
    assert (shown["held"]["reenrolled"], shown["held"]["created"], shown["held"]["excluded"]) == (count, 0, 0)
    assert f"{count} come under a new id" in shown["error"]
    await imports.acme.call("POST", f"/connectors/{connector}/confirm")
    run = await imports.sync(connector)
    assert (run["reenrolled"], run["created"], run["excluded"]) == (count, 0, 0)
    now = await imports.devices(connector, per_page=100)
    assert {name: now[name.upper()]["device_id"] for name in names} == {
        name: device["device_id"] for name, device in was.items()
    }


@pytest.mark.parametrize("change", [lambda name: f"v2-{name}", lambda name: name[::-1], lambda name: f"{{{name}}}"])
async def test_ids_of_another_form_are_held(imports: Imports, change: Any) -> None:
    """Without a serial number nobody but a person can say that they are the same."""
    names = [f"unit{n}" for n in range(9)]
    connector = await imports.connector()
    await _listed(imports, connector, **dict.fromkeys(names))
    imports.cloud.has(*map(change, names))
    assert (await imports.sync(connector))["held"]


# Names and places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "", "  ", {"a": 1}])
async def test_a_name_that_becomes_none_stays(imports: Imports, name: Any) -> None:
    """The last name, not the id; a new device without one has its id."""
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.sync(connector)
    await imports.outbox()
    imports.cloud.devices = [{"id": "one", "name": name}, {"id": "two", "name": name}]
    run = await imports.sync(connector)
    assert (run["renamed"], run["created"]) == (0, 1)
    assert {vendor_id: device["name"] for vendor_id, device in (await imports.devices(connector)).items()} == {
        "one": "One",
        "two": "two",
    }
    imports.cloud.devices = [{"id": "one", "name": "Uno"}, {"id": "two", "name": "Dos"}]
    assert (await imports.sync(connector))["renamed"] == 2


async def _places(imports: Imports, connector: str) -> dict[str, str]:
    rows = await imports.pool.fetch(
        """SELECT c.vendor_id, s.full_path FROM cloud_devices c JOIN devices d ON d.id = c.device_id
             JOIN spaces s ON s.id = d.space_id WHERE c.connector_id = $1""",
        connector,
    )
    top = await imports.pool.fetchval("SELECT full_path FROM spaces WHERE id = $1", imports.acme.space_id)
    return {row["vendor_id"]: row["full_path"].removeprefix(top) for row in rows}


MOVES = [("Oslo/1", "Oslo/2"), ("Oslo/1", None), (None, "Rome"), ("Oslo", "Oslo/2/x"), ("Oslo/1", "Rome")]


@pytest.mark.parametrize(("here", "there"), MOVES)
@pytest.mark.parametrize("follow", [False, True])
async def test_a_move_in_the_vendors_tree_is_told_and_followed_where_that_is_set(
    imports: Imports, here: str | None, there: str | None, follow: bool
) -> None:
    """With the event that any move has."""
    imports.cloud.devices = [{"id": "one", "name": "One", "space": here}, {"id": "two", "name": "Two"}]
    connector = await imports.connector()
    await imports.acme.call("PATCH", f"/connectors/{connector}", {"follow_spaces": follow})
    assert (await imports.shown(connector))["follow_spaces"] is follow
    assert (await imports.sync(connector))["moved"] == 0
    await imports.outbox()
    imports.cloud.devices[0]["space"] = there
    run = await imports.sync(connector)
    assert (run["moved"], run["renamed"], run["error"]) == (1, 0, None)
    [told] = run["details"]["moved"]
    assert (told["vendor_id"], told["was"], told["space"]) == ("one", here or "", there or "")
    place = there if follow else here
    assert (await _places(imports, connector))["one"] == (f"/{place}" if place else "")
    assert await imports.outbox() == ([("deviceMoved", "one")] if follow else [])
    assert (await imports.sync(connector))["moved"] == 0


async def test_a_device_that_a_person_put_elsewhere_stays_there(imports: Imports) -> None:
    """Like a name that a person gave."""
    imports.cloud.devices = [{"id": "one", "name": "One", "space": "Oslo"}]
    connector = await imports.connector()
    await imports.acme.call("PATCH", f"/connectors/{connector}", {"follow_spaces": True})
    await imports.sync(connector)
    space = await imports.acme.call("POST", "/spaces", {"project_id": str(imports.acme.project_id), "name": "Mine"})
    device_id = (await imports.devices(connector))["one"]["device_id"]
    await imports.pool.execute("UPDATE devices SET space_id = $2 WHERE id = $1", device_id, space["id"])
    imports.cloud.devices[0]["space"] = "Rome"
    assert (await imports.sync(connector))["moved"] == 1
    assert await imports.pool.fetchval("SELECT space_id::text FROM devices WHERE id = $1", device_id) == space["id"]


async def test_devices_below_one_that_moves_go_along(imports: Imports) -> None:
    """As with any move: those in the same space, each with its event; one that is listed goes where the list says."""
    imports.cloud.devices = [{"id": name, "name": name, "space": "Oslo"} for name in ("one", "two")]
    connector = await imports.connector()
    await imports.acme.call("PATCH", f"/connectors/{connector}", {"follow_spaces": True})
    await imports.sync(connector)
    top = await imports.pool.fetchrow(
        "SELECT id, space_id FROM devices WHERE id = (SELECT device_id FROM cloud_devices WHERE vendor_id = 'one')"
    )
    below = await imports.acme.device(parent_id=top["id"], space_id=top["space_id"])
    deeper = await imports.acme.device(parent_id=below, space_id=top["space_id"])
    elsewhere = await imports.acme.device(parent_id=below)
    await imports.pool.execute("UPDATE devices SET parent_id = $1 WHERE name = 'two'", top["id"])
    await imports.outbox()
    imports.cloud.devices[0]["space"], imports.cloud.devices[1]["space"] = "Rome", "Bonn"
    assert (await imports.sync(connector))["moved"] == 2
    rows = await imports.pool.fetch("SELECT d.id, s.name FROM devices d JOIN spaces s ON s.id = d.space_id")
    places = {row["id"]: row["name"] for row in rows}
    assert [places[device] for device in (top["id"], below, deeper)] == ["Rome"] * 3
    assert (await _places(imports, connector))["two"].endswith("/Bonn")
    assert places[elsewhere] not in ("Rome", "Bonn")
    moved = [("deviceMoved", who) for who in ("one", "two", str(below), str(deeper))]
    assert sorted(await imports.outbox()) == sorted(moved)


async def test_what_was_imported_before_places_were_known_is_not_taken_for_moved(imports: Imports) -> None:
    """The first list after the upgrade learns them."""
    (imports.cloud.folder / "acme.toml").write_text(manifest("none"))
    imports.cloud.has("one", "two", space="Oslo")
    connector = await imports.connector()
    await imports.sync(connector)
    await imports.pool.execute("UPDATE cloud_devices SET space = NULL")
    run = await imports.sync(connector)
    assert (run["moved"], run["renamed"]) == (0, 0)
    imports.cloud.has("one", "two", space="Rome")
    assert (await imports.sync(connector))["moved"] == 2
