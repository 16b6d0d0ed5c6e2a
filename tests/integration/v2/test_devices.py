"""Devices of projects by the public client library and by hand: list, get, labels, transfer."""

import base64
from datetime import UTC, datetime
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
from gateway.stores.devices import project_view
from gateway.stores.tenants import projects, spaces
from schemas.events import rfc3339
from schemas.redis import Redis

NOW = datetime.now(UTC).replace(microsecond=0)


async def typed(owner: Owner, device_type: str, **mapping: str) -> None:
    """Give the tenant's model a type and a mapping."""
    await owner.pool.execute(
        "UPDATE device_models SET device_type = $2, product_number = '102058', event_mappings = $3 WHERE id = $1",
        owner.model_id,
        device_type,
        mapping,
    )


async def second_project(owner: Owner) -> UUID:
    async with owner.pool.acquire() as connection:
        return (await projects.create(connection, owner.organization_id, "Second")).id


def path(owner: Owner, rest: str = "") -> str:
    return f"/v2/projects/{owner.project_id}/devices{rest}"


async def names(account: Account, owner: Owner, query: str) -> list[str]:
    """The devices that a query finds, by the label `name`."""
    status, answer = await account.ask("GET", path(owner, f"?{query}"))
    assert status == 200, answer
    return [device["labels"].get("name", "") for device in answer["devices"]]


async def test_the_client_shows_a_registered_device_with_what_it_reported(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """A device that came by HTTP, and its telemetry, look to the client as any other; with or without its project."""
    await typed(acme, "temperature", temp="temperature", bat="batteryStatus")
    device_id = await acme.device(name="Hall", labels={"floor": "2"})
    await send(edge, device_id, telemetries={"temp": 21.5, "bat": 80}, timestamp=rfc3339(NOW))
    await store_all(edge, redis_client)
    user = await account_of(acme, "project.user")
    for project in (str(acme.project_id), None):
        device = await user.client(dt.Device.get_device, str(device_id), project)
        assert (device.device_id, device.project_id) == (str(device_id), str(acme.project_id))
        assert (device.device_type, device.product_number, device.is_emulated) == ("temperature", "102058", False)
        assert (device.display_name, device.labels) == ("Hall", {"floor": "2", "name": "Hall"})
        assert (device.reported.temperature.celsius, device.reported.temperature.timestamp) == (21.5, NOW)
        assert device.reported.temperature.samples[0].celsius == 21.5
        assert device.reported.battery_status.percentage == 80
        assert device.reported.touch is None
    [listed] = await user.client(dt.Device.list_devices, str(acme.project_id))
    assert listed.raw == device.raw
    assert list(device.raw["reported"])[:2] == ["temperature", "probeWireStatus"]


async def test_the_client_filters_and_orders_a_list(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """By ids, types, labels, words, and by a value that devices reported; those without one come last."""
    await typed(acme, "co2", ppm="co2")
    ppms = {"Hall": 600, "Cellar": 400, "Attic": 1000, "Shed": None}
    for name, ppm in ppms.items():
        device_id = await acme.device(name=name, labels={"long": name[0] * 3} if ppm else {})
        if ppm is not None:
            await send(edge, device_id, telemetries={"ppm": ppm})
    await store_all(edge, redis_client)
    user, project = await account_of(acme, "project.user"), str(acme.project_id)

    async def found(**options: Any) -> list[str]:
        return [device.display_name for device in await user.client(dt.Device.list_devices, project, **options)]

    assert await found(order_by="reported.co2.ppm") == ["Cellar", "Hall", "Attic", "Shed"]
    assert await found(order_by="-reported.co2.ppm") == ["Attic", "Hall", "Cellar", "Shed"]
    assert await found(order_by="labels.name") == ["Attic", "Cellar", "Hall", "Shed"]
    assert await found(order_by="-labels.long") == ["Hall", "Cellar", "Attic", "Shed"]
    assert await found() == list(ppms)
    assert await found(order_by="-name") == list(ppms)[::-1]
    assert await found(label_filters={"long": "AAA"}) == ["Attic"]
    assert await found(label_filters={"long": ""}, order_by="labels.name") == ["Attic", "Cellar", "Hall"]
    assert await found(label_filters={"long": "AAA", "name": "Hall"}) == []
    assert await found(label_filters={"name": "Hall"}) == ["Hall"]
    assert await found(query="cel co2") == ["Cellar"]
    assert await found(query="100%") == []
    assert await found(device_types=["touch", "co2"], query="shed") == ["Shed"]
    assert await found(device_types=["touch"]) == []
    assert await found(device_ids=[str(acme.devices[1]), "emu00000000000000000000", "x"]) == ["Cellar"]
    assert await found(device_ids=["x"]) == []


@pytest.mark.parametrize("order", ["", "-name", "labels.n", "-labels.n", "reported.touch.updateTime", "type"])
async def test_pages_join_into_the_whole_list_whatever_comes_and_goes(
    edge: Any, acme: Owner, redis_client: Redis, order: str
) -> None:
    """Every device that stays is listed once, also when the value it is ordered by is shared or missing."""
    await typed(acme, "generic", t="touch")
    kept = []
    for n in range(9):
        device_id = await acme.device(labels={"n": str(n // 3)} if n % 4 else {})
        if n % 3:
            await send(edge, device_id, telemetries={"t": True}, timestamp=rfc3339(NOW.replace(second=n // 2)))
        kept.append(str(device_id))
    await store_all(edge, redis_client)
    user = await account_of(acme, "project.user")
    _, whole = await user.ask("GET", path(acme, f"?order_by={order}"))
    token, found = "", []
    while True:
        status, answer = await user.ask("GET", path(acme, f"?order_by={order}&pageSize=2&pageToken={token}"))
        assert status == 200, answer
        found += [device["name"] for device in answer["devices"]]
        token = answer["nextPageToken"]
        if not token:
            break
        await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE sn = 'gone'")
        await acme.device(sn="gone", name="0", labels={"n": ""})
    found = [name for name in found if name.rpartition("/")[2] in kept]
    assert found == [device["name"] for device in whole["devices"]]


@pytest.mark.parametrize("order", ["", "-name"])
async def test_a_page_of_a_search_looks_at_so_many_devices_and_leads_on(
    acme: Owner, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold few of them, or none, and not be the last; all pages together are what fits."""
    monkeypatch.setattr(project_view, "EXAMINED_MAX", 3)
    user = await account_of(acme, "project.user")
    fitting = [str(await acme.device(labels={"kept": "yes"} if n % 5 == 0 else {})) for n in range(20)][::5]
    found: list[str] = []
    sizes, token = [], ""
    while token or not sizes:
        query = f"?label_filters=kept&page_size=2&order_by={order}&page_token={token}"
        status, answer = await user.ask("GET", path(acme, query))
        assert status == 200
        found += [device["name"].rpartition("/")[2] for device in answer["devices"]]
        token = answer["nextPageToken"]
        sizes.append(len(answer["devices"]))
    assert found == (fitting[::-1] if order else fitting)
    assert 0 in sizes


async def test_a_list_covers_the_projects_that_the_caller_may_read(acme: Owner, globex: Owner) -> None:
    """With - as project: all of an organization for its administrator, for others those they have a role in."""
    second = await second_project(acme)
    async with acme.pool.acquire() as connection:
        space = (await spaces.create(connection, acme.organization_id, second, "Far")).id
    await acme.device(name="first")
    await acme.device(name="second", space_id=space)
    await globex.device(name="other")
    boss, user = await account_of(acme, "organization.admin"), await account_of(acme, "project.user")
    organization = str(acme.organization_id)

    async def found(account: Account, **options: Any) -> list[str]:
        listed = await account.client(dt.Device.list_devices, "-", organization_id=organization, **options)
        return sorted(device.display_name for device in listed)

    assert await found(boss) == ["first", "second"]
    assert await found(boss, project_ids=[str(second)]) == ["second"]
    assert await found(user) == ["first"]
    for projects_asked in ([str(second)], [str(acme.project_id), str(globex.project_id)], ["x"]):
        with pytest.raises(errors.NotFound):
            await found(user, project_ids=projects_asked)
    with pytest.raises(errors.NotFound):
        await user.client(dt.Device.list_devices, "-", organization_id=str(globex.organization_id))
    assert (await user.ask("GET", "/v2/projects/-/devices"))[0] == 400
    with pytest.raises(errors.NotFound):
        await user.client(dt.Device.list_devices, str(second))
    for device_id in (acme.devices[1], globex.devices[0], "x", "emu00000000000000000000"):
        with pytest.raises(errors.NotFound):
            await user.client(dt.Device.get_device, str(device_id))
    with pytest.raises(errors.NotFound):
        await boss.client(dt.Device.get_device, str(acme.devices[1]), str(acme.project_id))


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0",
        "page_size=101",
        "page_token=x",
        "page_token=%00",
        "page_token=WyJhIl0",
        "order_by=colour",
        "order_by=reported",
        "order_by=reported.temperature",
        "order_by=labels",
        "query=%00",
        "label_filters=a%00",
        "query=" + "a+" * 21,
        "product_numbers=" + "1" * 256,
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(acme: Owner, query: str) -> None:
    """With 400, and a sentence."""
    user = await account_of(acme, "project.user")
    status, answer = await user.ask("GET", path(acme, f"?{query}"))
    assert (status, answer["code"]) == (400, 400)
    assert answer["error"]


async def test_odd_words_and_labels_find_what_they_say(acme: Owner) -> None:
    """What PostgreSQL's patterns and JSON make special is ordinary text here."""
    user = await account_of(acme, "project.user")
    await acme.device(name="100%_\\", labels={"a.b": "c=d", "e": "f&g"})
    await acme.device(name="other")
    assert await names(user, acme, "query=%25_%5C") == ["100%_\\"]
    assert await names(user, acme, "query=_x") == []
    assert await names(user, acme, "label_filters=a.b%3Dc%3Dd&labelFilters=e%3Df%26g") == ["100%_\\"]
    assert await names(user, acme, "order_by=labels.a.b") == ["100%_\\", "other"]


async def test_page_tokens_that_somebody_made_up_are_refused(acme: Owner) -> None:
    """Also such that hold what is no JSON, or no place of this order."""
    user = await account_of(acme, "project.user")
    wrong = ("{", '"\\u0000"', '{"\\u0000":1}', '"\\ud800"', "1e-99999", "1e999999", "NaN", "[" * 5000, "\0", '"\0"', 1)
    places = [[text, str(acme.model_id)] for text in wrong]
    for place in (*places, ['"a"', "x"], ["1"], [1, 2]):
        token = page_tokens.seal(("type",), place)
        assert (await user.ask("GET", path(acme, f"?order_by=type&page_token={token}")))[0] == 400
    for text in ('"a"', '"\\\\u0000"', '{"a": [-1.50, "\\ud83d\\ude00", null]}', "9" * 400):
        token = page_tokens.seal(("type",), [text, str(acme.model_id)])
        assert (await user.ask("GET", path(acme, f"?order_by=type&page_token={token}")))[0] == 200
    assert (await user.ask("GET", path(acme, f"?page_token={token}")))[0] == 400
    deep = base64.urlsafe_b64encode(msgspec.json.encode(["x"]) + b"[" * 500).decode()
    assert (await user.ask("GET", path(acme, f"?page_token={deep}")))[0] == 400


# Labels ------------------------------------------------------------------------------------------------------


async def test_the_client_sets_and_removes_labels(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """As its documentation shows; each change is an event, and the organization sees the new name."""
    developer, project = await account_of(acme, "project.developer"), str(acme.project_id)
    first, second = await acme.device(name="Old", labels={"tag": "1"}), await acme.device()

    async def labels(device_id: UUID) -> dict[str, str]:
        labels: dict[str, str] = (await developer.client(dt.Device.get_device, str(device_id), project)).labels
        return labels

    assert await developer.client(dt.Device.set_label, str(first), project, "room", "99") == []
    assert await labels(first) == {"name": "Old", "tag": "1", "room": "99"}
    assert await developer.client(dt.Device.remove_label, str(first), project, "tag") == []
    assert await labels(first) == {"name": "Old", "room": "99"}
    failed = await developer.client(
        dt.Device.batch_update_labels,
        [str(first), str(second), str(acme.model_id)],
        project,
        set_labels={"name": "New", "description": "by the door", "room": "7"},
        remove_labels=["tag"],
    )
    assert [(error.device_id, error.status_code) for error in failed] == [(str(acme.model_id), "NOT_FOUND")]
    named = {"name": "New", "description": "by the door", "room": "7"}
    assert await labels(first) == await labels(second) == named
    assert (await acme.call("GET", f"/devices/{first}"))["name"] == "New"
    await store_all(edge, redis_client)
    history = await developer.client(dt.EventHistory.list_events, str(first), project)
    assert [(e.data.added, e.data.modified, e.data.removed) for e in reversed(history)] == [
        ({"room": "99"}, {}, []),
        ({}, {}, ["tag"]),
        ({"description": "by the door"}, {"name": "New", "room": "7"}, []),
    ]


async def test_a_device_is_told_of_its_new_name(edge: Any, acme: Owner) -> None:
    """By its info version, in the answer to its next message; of other labels it is not told."""
    developer = await account_of(acme, "project.developer")
    device_id = await acme.device()
    key = edge.services.access_keys.issue(str(device_id), 0)

    async def info_version() -> int:
        _, answer = await acme.ask("POST", f"/v1/devices/{device_id}/telemetry", {"status": "online"}, key=key)
        return int(answer["info_version"])

    devices = [f"projects/{acme.project_id}/devices/{device_id}"]
    await developer.ask("POST", path(acme, ":batchUpdate"), {"devices": devices, "addLabels": {"a": "b"}})
    assert await info_version() == 0
    await developer.ask("POST", path(acme, ":batchUpdate"), {"devices": devices, "addLabels": {"name": "b"}})
    assert await info_version() == 1
    await developer.ask("POST", path(acme, ":batchUpdate"), {"devices": devices, "removeLabels": ["name"]})
    assert await info_version() == 2
    assert (await acme.row(device_id))["name"] == ""


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"devices": []},
        {"devices": ["x"]},
        {"devices": ["x"], "addLabels": {}, "removeLabels": []},
        {"devices": ["x"], "addLabels": {"a": 1}},
        {"devices": ["x"], "addLabels": {"": "b"}},
        {"devices": ["x"], "addLabels": {"a\0": "b"}},
        {"devices": ["x"], "addLabels": {"a": "b\0"}},
        {"devices": ["x"], "addLabels": {"a": "b" * 256}},
        {"devices": ["x"], "addLabels": {"a": "b"}, "removeLabels": ["a"]},
        {"devices": ["x"] * 1001, "addLabels": {"a": "b"}},
        {"devices": ["x"], "addLabels": {str(n): "" for n in range(101)}},
    ],
    ids=lambda body: str(body)[:60],
)
async def test_an_update_of_labels_that_makes_no_sense_is_refused(acme: Owner, body: Any) -> None:
    """Whole, with 400."""
    developer = await account_of(acme, "project.developer")
    assert (await developer.ask("POST", path(acme, ":batchUpdate"), body))[0] == 400


async def test_a_device_has_a_bounded_number_of_labels(acme: Owner, globex: Owner) -> None:
    """One more is refused for that device alone. Devices of others are not found, however they are called."""
    developer = await account_of(acme, "project.developer")
    full = await acme.device(labels={str(n): "" for n in range(100)})
    other, foreign = await acme.device(), await globex.device()
    devices = [f"projects/{acme.project_id}/devices/{device}" for device in (full, other, foreign)]
    devices += [f"projects/{globex.project_id}/devices/{foreign}", "x"]
    body = {"devices": devices, "addLabels": {"more": "", "name": "N"}}
    status, answer = await developer.ask("POST", path(acme, ":batchUpdate"), body)
    found = {error["device"]: error["status"]["code"] for error in answer["batchErrors"]}
    assert (status, found) == (
        200,
        {devices[0]: "INVALID_ARGUMENT", **dict.fromkeys(devices[2:], "NOT_FOUND")},
    )
    assert [(await acme.row(device))["name"] for device in (full, other, foreign)] == ["", "N", ""]


# Transfer ----------------------------------------------------------------------------------------------------


async def test_the_client_transfers_devices_with_what_is_below_them(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """Into another project; both projects are told, the devices too, and what each did there stays where it was."""
    target = await second_project(acme)
    boss, project = await account_of(acme, "organization.admin"), str(acme.project_id)
    parent = await acme.device()
    child, other = await acme.device(parent_id=parent), await acme.device()
    await send(edge, parent, status="online")
    failed = await boss.client(
        dt.Device.transfer_devices, [str(parent), str(child), str(acme.model_id)], project, str(target)
    )
    assert [(error.device_id, error.status_code) for error in failed] == [(str(acme.model_id), "NOT_FOUND")]
    await store_all(edge, redis_client)
    there = await boss.client(dt.Device.list_devices, str(target))
    assert {device.device_id for device in there} == {str(parent), str(child)}
    assert [device.device_id for device in await boss.client(dt.Device.list_devices, project)] == [str(other)]
    row = await acme.row(parent)
    assert row["space_data_version"] == 2
    assert await acme.pool.fetchval("SELECT full_path FROM spaces WHERE id = $1", row["space_id"]) == "Unsorted"
    before = await boss.client(dt.EventHistory.list_events, str(parent), project)
    after = await boss.client(dt.EventHistory.list_events, str(parent), str(target))
    # What was accepted before is stored after: it belongs to where the device is when it is stored.
    assert [event.event_type for event in before] == ["deviceMoved"]
    assert sorted(event.event_type for event in after) == ["deviceMoved", "telemetry"]
    again = await boss.client(dt.Device.transfer_devices, [str(parent)], str(target), str(target))
    assert [error.status_code for error in again] == ["INVALID_ARGUMENT"]


async def test_a_transfer_needs_an_administrator_on_both_sides(acme: Owner, globex: Owner) -> None:
    """Of a project where the caller has no role nothing is found; too little a role there refuses it whole."""
    device_id = await acme.device()
    theirs = await globex.device()
    body = {"devices": [f"projects/{acme.project_id}/devices/{device_id}"]}
    admin = await account_of(globex, "project.admin")
    status, answer = await admin.ask("POST", path(globex, ":transfer"), body)
    assert (status, answer["transferErrors"][0]["status"]["code"]) == (200, "NOT_FOUND")
    for role, expected in (("project.developer", 403), ("project.admin", 200)):
        await acme.pool.execute(
            """INSERT INTO memberships (id, organization_id, project_id, role, service_account_id)
               VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (organization_id, project_id, service_account_id, email, (role LIKE 'partner.%'))
               DO UPDATE SET role = excluded.role""",
            "m" * 20,
            acme.organization_id,
            acme.project_id,
            role,
            admin.id,
        )
        body["devices"].append(f"projects/{globex.project_id}/devices/{theirs}")
        status, answer = await admin.ask("POST", path(globex, ":transfer"), body)
        assert status == expected
    assert answer["transferredDevices"] == [f"projects/{globex.project_id}/devices/{device_id}"]
    assert [error["status"]["code"] for error in answer["transferErrors"]] == ["INVALID_ARGUMENT"]
    row = await acme.row(device_id)
    assert (row["organization_id"], row["project_id"]) == (globex.organization_id, globex.project_id)
    assert (await acme.call("GET", f"/devices/{device_id}"))[0] == 404
    assert (await globex.call("GET", f"/devices/{device_id}"))["space"]["full_path"] == "Unsorted"
