"""What a sync does, row by row of the contract's table, and the safety that is beyond it."""

import secrets
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from aiohttp import web
from imports import Imports
from owners import owner
from projects import account_of

from workers.importer import diff, leases


async def test_a_device_that_existed_before_the_connector_is_imported_by_the_first_sync(imports: Imports) -> None:
    """As a full device: claimed into the space, with its events, in both APIs."""
    imports.cloud.devices = [
        {
            "id": 17,
            "name": "Lobby",
            "serial": "A1",
            "mac": "AA-BB-CC-DD-EE-FF",
            "model": "M1",
            "firmware": "2.1",
            "space": "Oslo/2nd floor",
        }
    ]
    connector = await imports.connector()
    run = await imports.sync(connector)
    assert (run["found"], run["created"], run["error"]) == (1, 1, None)
    imported = (await imports.devices(connector))["17"]
    device = await imports.acme.call("GET", f"/devices/{imported['device_id']}")
    top = await imports.pool.fetchval("SELECT full_path FROM spaces WHERE id = $1", imports.acme.space_id)
    assert (device["name"], device["sn"], device["mac"]) == ("Lobby", "A1", "aa:bb:cc:dd:ee:ff")
    assert (device["space"]["full_path"], device["firmware"]["version"]) == (f"{top}/Oslo/2nd floor", "2.1")
    assert device["model"]["vendor"] == "Acme Cloud"
    user = await account_of(imports.acme, "project.user")
    _, listed = await user.ask("GET", f"/v2/projects/{imports.acme.project_id}/devices")
    assert [found["name"].rpartition("/")[2] for found in listed["devices"]] == [imported["device_id"]]
    assert listed["devices"][0]["labels"]["name"] == "Lobby"
    assert await imports.outbox() == [("deviceRegistered", "17"), ("deviceClaimed", "17")]
    shown = await imports.shown(connector)
    assert (shown["status"], shown["devices_found"], shown["active_devices"]) == ("Active", 1, 1)


async def test_a_device_added_in_the_vendor_cloud_is_imported_by_the_next_sync(imports: Imports) -> None:
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.sync(connector)
    imports.cloud.has("one", "two", "three", "four")
    run = await imports.sync(connector)
    assert (run["found"], run["created"], set(await imports.devices(connector))) == (
        4,
        3,
        {"one", "two", "three", "four"},
    )


async def test_a_device_renamed_there_is_renamed_here_unless_a_user_named_it(imports: Imports) -> None:
    """The owner's own name stays, through further renames too; others follow, and are told of.

    The device is told as of an owner's: `info_version` grows.
    """
    imports.cloud.has("kept", "free")
    connector = await imports.connector()
    await imports.sync(connector)
    kept, free = [(await imports.devices(connector))[name]["device_id"] for name in ("kept", "free")]
    await imports.acme.call("PATCH", f"/devices/{kept}", {"name": "Mine"})
    await imports.outbox()
    for version, name in enumerate(("First", "Second"), 1):
        imports.cloud.devices = [{"id": "kept", "name": name}, {"id": "free", "name": name}]
        run = await imports.sync(connector)
        assert run["renamed"] == 2
        device = await imports.acme.call("GET", f"/devices/{kept}")
        assert (device["name"], device["info_version"]) == ("Mine", 1)
        device = await imports.acme.call("GET", f"/devices/{free}")
        assert (device["name"], device["info_version"]) == (name, version)
        assert await imports.outbox() == [("labelsChanged", "free")]


async def test_a_device_missing_from_the_answer_is_excluded_and_comes_back_as_the_same(imports: Imports) -> None:
    """Deleted there is not deleted here; one that appears again is the same device with its history."""
    imports.cloud.has("here", "gone")
    connector = await imports.connector()
    await imports.sync(connector)
    before = await imports.devices(connector)
    await imports.outbox()
    imports.cloud.has("here")
    run = await imports.sync(connector)
    gone = (await imports.devices(connector, state="excluded"))["gone"]
    assert (run["excluded"], gone["reason"], gone["device_id"]) == (1, "missing", before["gone"]["device_id"])
    device = await imports.acme.call("GET", f"/devices/{gone['device_id']}")
    assert device["effective_status"] == "disconnected"
    assert await imports.outbox() == [("deviceExcluded", "gone")]
    imports.cloud.has("here", "gone")
    run = await imports.sync(connector)
    assert (run["restored"], run["created"]) == (1, 0)
    assert (await imports.devices(connector, state="active"))["gone"]["device_id"] == before["gone"]["device_id"]
    assert await imports.outbox() == [("deviceRestored", "gone")]


async def test_a_device_that_a_user_deleted_stays_away_until_it_is_restored(imports: Imports) -> None:
    """Kept as a record, never imported again by itself."""
    imports.cloud.has("one", "two")
    connector = await imports.connector()
    await imports.sync(connector)
    first = (await imports.devices(connector))["one"]["device_id"]
    await imports.acme.call("DELETE", f"/devices/{first}")
    for _ in range(2):
        run = await imports.sync(connector)
        assert (run["created"], run["restored"], run["excluded"]) == (0, 0, 0)
    assert (await imports.devices(connector, state="excluded"))["one"]["reason"] == "user_deleted"
    assert (await imports.shown(connector))["excluded_devices"] == 1
    assert (await imports.acme.call("POST", f"/connectors/{connector}/devices/two/restore"))[0] == 404
    assert await imports.acme.call("POST", f"/connectors/{connector}/devices/one/restore") == {"success": True}
    run = await imports.sync(connector)
    assert run["created"] == 1
    again = (await imports.devices(connector, state="active"))["one"]["device_id"]
    assert again != first
    assert (await imports.acme.call("GET", f"/devices/{again}"))["name"] == "One"


@pytest.mark.parametrize("vendor_id", ["hall/north/1", "/", "50%", "a?b", "æ ø"])
async def test_a_device_of_any_vendor_id_can_be_restored(imports: Imports, vendor_id: str) -> None:
    imports.cloud.devices = [{"id": vendor_id, "name": "One"}, {"id": "two", "name": "Two"}]
    connector = await imports.connector()
    await imports.sync(connector)
    device_id = (await imports.devices(connector))[vendor_id]["device_id"]
    await imports.acme.call("DELETE", f"/devices/{device_id}")
    path = f"/connectors/{connector}/devices/{quote(vendor_id, safe='')}/restore"
    assert await imports.acme.call("POST", path) == {"success": True}
    assert (await imports.sync(connector))["created"] == 1


@pytest.mark.parametrize("page", [1, 2, 3])
async def test_a_sync_that_fails_anywhere_changes_nothing(imports: Imports, page: int) -> None:
    """The last page included."""
    imports.cloud.has(*"abcdefg")
    connector = await imports.connector()
    await imports.sync(connector)
    was = await imports.devices(connector)
    imports.cloud.has(*"cdefghijk")

    def fail(request: Any, _: int) -> Any:
        return web.json_response({}, status=400) if request.query.get("page") == str(page) else None

    imports.cloud.before = fail
    run = await imports.sync(connector)
    assert "answered 400" in run["error"]
    assert await imports.devices(connector) == was
    assert (await imports.shown(connector))["status"] == "Active"  # one failure is no reason to call people


async def test_deleting_a_connector_deletes_its_devices_and_adding_it_again_imports_them_anew(
    imports: Imports,
) -> None:
    """It asks for the name and shows the count; the space tree stays."""
    imports.cloud.has("one", "two", space="Oslo")
    connector = await imports.connector()
    await imports.sync(connector)
    old = {device["device_id"] for device in (await imports.devices(connector)).values()}
    status, told = await imports.acme.call("DELETE", f"/connectors/{connector}")
    assert (status, "2 devices" in told) == (422, True)
    assert await imports.acme.call("DELETE", f"/connectors/{connector}", name="Acme Cloud") == {"deleted_devices": 2}
    assert (await imports.acme.call("GET", f"/connectors/{connector}"))[0] == 404
    for device in old:
        assert (await imports.acme.call("GET", f"/devices/{device}"))[0] == 404
    assert await imports.pool.fetchval("SELECT count(*) FROM spaces WHERE name = 'Oslo'") == 1
    another = await imports.connector()
    assert (await imports.sync(another))["created"] == 2
    assert not old & {device["device_id"] for device in (await imports.devices(another)).values()}


async def test_a_disabled_connector_changes_nothing_and_its_devices_show_disconnected(imports: Imports) -> None:
    """Enabled again, it goes on with the same credentials."""
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.sync(connector)
    device = (await imports.devices(connector))["one"]["device_id"]
    assert (await imports.acme.call("POST", f"/connectors/{connector}/disable"))["status"] == "Disabled"
    assert (await imports.acme.call("GET", f"/devices/{device}"))["effective_status"] == "disconnected"
    assert (await imports.acme.call("POST", f"/connectors/{connector}/sync"))[0] == 422
    assert await leases.claim(imports.pool, imports.holder, 10) == []
    assert (await imports.acme.call("POST", f"/connectors/{connector}/enable"))["status"] == "Active"
    assert (await imports.sync(connector))["error"] is None
    assert (await imports.acme.call("GET", f"/devices/{device}"))["effective_status"] == "never_seen"


async def test_refused_credentials_are_an_error_at_once_and_other_failures_after_five(imports: Imports) -> None:
    """After 401 nothing runs until somebody authorises again; other failures go on being tried."""
    imports.cloud.has("one")
    connector = await imports.connector()
    imports.cloud.token = "another"
    await imports.sync(connector)
    shown = await imports.shown(connector)
    assert (shown["status"], shown["next_sync_at"]) == ("Error", None)
    assert "refused the credentials" in shown["error"]
    await imports.authorise(connector, token="another")
    assert (await imports.sync(connector))["created"] == 1

    def broken(request: Any, _: int) -> Any:
        return web.Response(text="<html>", content_type="text/html")

    imports.cloud.before = broken
    for count in range(1, 6):
        run = await imports.sync(connector)
        assert "not JSON but text/html" in run["error"]
        shown = await imports.shown(connector)
        assert shown["status"] == ("Active" if count < 5 else "Error")
        assert shown["next_sync_at"] is not None
    imports.cloud.before = None
    await imports.sync(connector)
    shown = await imports.shown(connector)
    assert (shown["status"], shown["error"]) == ("Active", None)


# Held lists --------------------------------------------------------------------------------------------------


NAMES = [f"d{n:03}" for n in range(100)]


@pytest.mark.parametrize(("left", "held"), [(85, False), (84, True), (0, True)])
async def test_a_list_that_would_exclude_much_is_held(imports: Imports, left: int, held: bool) -> None:
    """More than fifteen in a hundred, or all: nothing changes, additions neither."""
    imports.cloud.has(*NAMES)
    connector = await imports.connector()
    await imports.sync(connector)
    imports.cloud.has(*NAMES[:left], *(["new"] if left else []))
    run = await imports.sync(connector)
    shown = await imports.shown(connector)
    assert (run["held"], shown["status"]) == (held, "Error" if held else "Active")
    assert shown["active_devices"] == (100 if held else left + 1)
    if held:
        assert (shown["held"]["excluded"], shown["held"]["active"]) == (100 - left, 100)
        assert f"exclude {100 - left} of 100" in shown["error"]


async def test_few_devices_may_go_at_once_but_never_all(imports: Imports) -> None:
    """Nine of ten are below the least that is held; an empty list is held whatever its size."""
    imports.cloud.has(*NAMES[:10])
    connector = await imports.connector()
    await imports.sync(connector)
    imports.cloud.has(NAMES[0])
    assert (await imports.sync(connector))["excluded"] == 9
    imports.cloud.has()
    assert (await imports.sync(connector))["held"]


async def test_a_held_list_is_applied_once_a_user_confirms_it(imports: Imports) -> None:
    """As many devices as were shown, no more."""
    imports.cloud.has(*NAMES)
    connector = await imports.connector()
    await imports.sync(connector)
    assert (await imports.acme.call("POST", f"/connectors/{connector}/confirm"))[0] == 422
    imports.cloud.has(*NAMES[:50])
    await imports.sync(connector)
    await imports.acme.call("POST", f"/connectors/{connector}/confirm")
    imports.cloud.has(*NAMES[:10])
    assert (await imports.sync(connector))["held"]
    await imports.acme.call("POST", f"/connectors/{connector}/confirm")
    run = await imports.sync(connector)
    assert (run["held"], run["excluded"]) == (False, 90)
    shown = await imports.shown(connector)
    assert (shown["status"], shown["held"], shown["excluded_devices"]) == ("Active", None, 90)


async def test_a_held_list_is_applied_when_three_runs_in_a_row_agree(imports: Imports) -> None:
    """Some time apart. One that disagrees, or a failure between them, begins the count anew."""
    imports.cloud.has(*NAMES)
    connector = await imports.connector()
    await imports.sync(connector)
    for names, held in ((NAMES[:50], True), (NAMES[:50], True), (NAMES[1:51], True), (NAMES[:50], True)):
        imports.cloud.has(*names)
        assert (await imports.sync(connector))["held"] is held
        imports.clock.move(minutes=12)
    imports.cloud.token, token = "wrong for a moment", imports.cloud.token
    imports.cloud.before = lambda *_: web.json_response({}, status=400)
    assert (await imports.sync(connector))["error"]
    imports.cloud.token, imports.cloud.before = token, None
    for held in (True, True, False):
        imports.clock.move(minutes=12)
        assert (await imports.sync(connector))["held"] is held
    assert (await imports.shown(connector))["active_devices"] == 50


async def test_a_held_list_shows_its_devices_and_only_the_seen_one_is_confirmed(imports: Imports) -> None:
    """The run names what would go; another list than the one that was seen is neither confirmed nor rejected."""
    imports.cloud.has(*NAMES)
    connector = await imports.connector()
    await imports.sync(connector)
    imports.cloud.has(*NAMES[:50], "fresh")
    run = await imports.sync(connector)
    held = (await imports.shown(connector))["held"]
    assert (held["run_id"], held["needs_person"], held["agreeing"], held["rejected"]) == (run["id"], False, 1, False)
    read = await imports.acme.call("GET", f"/connectors/{connector}/runs/{held['run_id']}")
    assert read == run
    assert [gone["vendor_id"] for gone in read["details"]["excluded"]] == sorted(NAMES[50:])
    assert [new["vendor_id"] for new in read["details"]["created"]] == ["fresh"]
    assert "exclude 50 of 100" in read["details"]["why_held"]
    imports.cloud.has(*NAMES[:40], "fresh")
    await imports.sync(connector)
    for action in ("confirm", "reject"):
        status, _ = await imports.acme.call("POST", f"/connectors/{connector}/{action}", {"list": held["list"]})
        assert status == 409
    seen = (await imports.shown(connector))["held"]["list"]
    await imports.acme.call("POST", f"/connectors/{connector}/confirm", {"list": seen})
    assert (await imports.sync(connector))["excluded"] == 60


async def test_devices_that_a_person_keeps_stay_however_often_the_list_comes(imports: Imports) -> None:
    """Until the person confirms it after all, or the list is another; an empty one is for a person alone."""
    imports.cloud.has(*NAMES)
    connector = await imports.connector()
    await imports.sync(connector)
    assert (await imports.acme.call("POST", f"/connectors/{connector}/reject"))[0] == 422
    imports.cloud.has(*NAMES[:50])
    await imports.sync(connector)
    await imports.acme.call("POST", f"/connectors/{connector}/reject")
    assert (await imports.shown(connector))["held"]["rejected"] is True
    for _ in range(4):
        imports.clock.move(minutes=12)
        assert (await imports.sync(connector))["held"] is True
    assert (await imports.shown(connector))["active_devices"] == 100
    await imports.acme.call("POST", f"/connectors/{connector}/confirm")
    assert (await imports.sync(connector))["excluded"] == 50
    imports.cloud.has()
    await imports.sync(connector)
    assert (await imports.shown(connector))["held"]["needs_person"] is True


async def test_items_that_are_no_devices_are_skipped_and_reported(imports: Imports) -> None:
    """Duplicate and missing ids, names too long; the rest goes on."""
    imports.cloud.devices = [
        {"id": "good", "name": "Good"},
        {"id": "good", "name": "Twice"},
        {"name": "No id"},
        {"id": "", "name": "Empty"},
        {"id": {"a": 1}, "name": "Odd"},
        {"id": "long", "name": "x" * 256},
        {"id": "i" * 256, "name": "Long id"},
        "not a device",
        {"id": "nul", "name": "a\x00b", "serial": 7, "mac": "nonsense", "space": ["x/y", "z"]},
        {"id": "unnamed"},
    ]
    connector = await imports.connector()
    run = await imports.sync(connector)
    assert (run["found"], run["created"], run["skipped"]) == (3, 3, 7)
    reasons = {skip["reason"] for skip in run["details"]["skips"]}
    assert reasons == {
        "comes twice in the list",
        "has no id",
        "its name is longer than 255 characters",
        "its id is longer than 255 characters",
    }
    devices = await imports.devices(connector)
    assert {name: device["name"] for name, device in devices.items()} == {
        "good": "Good",
        "nul": "ab",
        "unnamed": "unnamed",
    }
    odd = await imports.acme.call("GET", f"/devices/{devices['nul']['device_id']}")
    assert (odd["sn"], odd["mac"], odd["space"]["full_path"].endswith("/x-y/z")) == ("7", None, True)


async def test_a_path_that_is_too_long_for_a_space_ends_where_it_fits(imports: Imports) -> None:
    """One device does not stop the list."""
    names = [secrets.token_hex(120) for _ in range(16)]
    imports.cloud.devices = [{"id": "long", "space": "/".join(names)}, {"id": "one", "space": "Oslo"}]
    connector = await imports.connector()
    assert (await imports.sync(connector))["created"] == 2
    paths = await imports.pool.fetch("SELECT s.full_path FROM devices d JOIN spaces s ON s.id = d.space_id")
    assert any(row["full_path"].endswith("/Oslo") for row in paths)
    assert max(row["full_path"].count("/") for row in paths) > 5
    assert (await imports.sync(connector))["moved"] == 0


async def test_two_devices_of_one_serial_number_are_both_imported(imports: Imports) -> None:
    """A vendor's serial numbers need not be unique."""
    imports.cloud.has("a", "b", serial="same")
    connector = await imports.connector()
    assert (await imports.sync(connector))["created"] == 2
    another = await imports.connector()
    assert (await imports.sync(another))["created"] == 2
    numbers = await imports.pool.fetch("SELECT sn FROM devices WHERE deleted_at IS NULL")
    assert sorted(str(row["sn"]) for row in numbers) == ["None", "None", "None", "same"]


async def test_the_last_hundred_runs_are_kept(imports: Imports) -> None:
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.pool.execute(
        """INSERT INTO cloud_runs (connector_id, kind, started_at)
           SELECT $1, 'inventory', now() FROM generate_series(1, 150)""",
        connector,
    )
    await imports.sync(connector)
    assert await imports.pool.fetchval("SELECT count(*) FROM cloud_runs") == 100
    pages = [await imports.acme.call("GET", f"/connectors/{connector}/runs", page=n, per_page=60) for n in (1, 2)]
    found = [run["id"] for page in pages for run in page["items"]]
    assert found == sorted(found, reverse=True)
    assert len(found) == 100


async def test_what_postgres_refuses_is_a_failed_run_and_not_the_end_of_the_process(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connector's list must not stop the others."""
    imports.cloud.has("one")
    connector = await imports.connector()

    async def refuse(connection: Any, *_: Any) -> None:
        await connection.execute("SELECT 1 / 0")

    with monkeypatch.context() as patched:
        patched.setattr(diff, "apply", refuse)
        assert "could not be read or stored" in (await imports.sync(connector))["error"]
    assert await imports.devices(connector) == {}
    assert (await imports.sync(connector))["created"] == 1


async def test_a_space_that_a_connector_imports_into_stays(imports: Imports) -> None:
    """It is refused in words, empty or not."""
    space = await imports.acme.call("POST", "/spaces", {"project_id": str(imports.acme.project_id), "name": "Imported"})
    body = {"provider": "acme", "project_id": str(imports.acme.project_id), "space_id": space["id"]}
    await imports.acme.call("POST", "/connectors", body | {"settings": {"url": imports.cloud.url}})
    answer = await imports.acme.call("DELETE", f"/spaces/{space['id']}")
    assert answer == (422, "Space still has cloud connectors in it")


async def test_a_device_that_went_to_another_organization_is_imported_anew(imports: Imports) -> None:
    """The one that went is its new owner's alone: what the vendor tells later does not reach it."""
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.sync(connector)
    went = (await imports.devices(connector))["one"]["device_id"]
    globex = await owner(imports.edge, "Globex")
    await imports.pool.execute(
        "UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4 WHERE id = $1",
        UUID(went),
        globex.organization_id,
        globex.project_id,
        globex.space_id,
    )
    imports.cloud.devices = [{"id": "one", "name": "Renamed"}]
    assert (await imports.sync(connector))["created"] == 1
    assert (await imports.devices(connector))["one"]["device_id"] != went
    assert (await globex.call("GET", f"/devices/{went}"))["name"] == "One"
