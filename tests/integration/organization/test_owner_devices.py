"""The owner's devices: list, read, name, move, delete."""

from typing import Any

from owners import NOW, Owner

from gateway.stores.tenants.spaces import SPACE_UNKNOWN
from schemas import ids, keys


async def test_a_device_shows_all_that_the_contract_names(acme: Owner) -> None:
    """One device, every member."""
    device_id = await acme.device(name="Door", details={"floor": 2}, sub_model="B", sn="S1", mac="02:00:00:00:00:ff")
    await acme.seen(device_id, "online", temperature=21.5)
    device = await acme.call("GET", f"/devices/{device_id}")
    assert device.pop("registered_at")
    assert device == {
        "id": str(device_id),
        "name": "Door",
        "sn": "S1",
        "mac": "02:00:00:00:00:ff",
        "cloud_id": None,
        "status": "online",
        "effective_status": "ok",
        "effective_status_cause": None,
        "offline_threshold_s": 300,
        "last_seen_at": "2026-05-04T12:00:00Z",
        "details": {"floor": 2},
        "state": {"temperature": 21.5, "status": "online"},
        "state_at": "2026-05-04T12:00:00Z",
        "model": {"id": str(acme.model_id), "vendor": "Acme", "name": "Sensor"},
        "sub_model": "B",
        "firmware": {"version": "1.0.0"},
        "space": {"id": str(acme.space_id), "full_path": "Hall"},
        "project_id": str(acme.project_id),
        "parent_id": None,
        "claimed_at": NOW.isoformat().replace("+00:00", "Z"),
        "config_version": 0,
        "applied_config_version": 0,
        "info_version": 0,
        "space_data_version": 1,
        "open_commands": 0,
        "incidents_suspended": False,
    }


async def test_a_list_holds_own_living_devices_of_a_project_or_a_subtree(acme: Owner, globex: Owner) -> None:
    """Filters narrow the list; a space stands for itself and all below it."""
    below = await acme.call(
        "POST", "/spaces", {"project_id": str(acme.project_id), "name": "Below", "parent_id": str(acme.space_id)}
    )
    project = await acme.call("POST", "/projects", {"name": "Second"})
    elsewhere = await acme.call("POST", "/spaces", {"project_id": project["id"], "name": "Hall"})
    here, deep, other = [await acme.device(space_id=space) for space in (acme.space_id, below["id"], elsewhere["id"])]
    await acme.device(claimed=False)
    await globex.device()
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", await acme.device())

    async def listed(**query: Any) -> list[str]:
        return [device["id"] for device in (await acme.call("GET", "/devices", **query))["items"]]

    assert await listed() == sorted([str(here), str(deep), str(other)])
    assert await listed(space_id=acme.space_id) == sorted([str(here), str(deep)])
    assert await listed(space_id=below["id"]) == [str(deep)]
    assert await listed(project_id=project["id"]) == [str(other)]
    assert await listed(project_id=acme.project_id, space_id=elsewhere["id"]) == []
    for query in ({"space_id": globex.space_id}, {"space_id": ids.new_id()}):
        assert await acme.call("GET", "/devices", **query) == (404, "Space not found")
    assert await acme.call("GET", "/devices", project_id=globex.project_id) == (404, "Project not found")


BAD_QUERIES: list[tuple[dict[str, Any], str]] = [
    ({"per_page": 101}, "Per page"),
    ({"per_page": 0}, "Per page"),
    ({"per_page": "9" * 400}, "Per page"),
    ({"page": 0}, "Page"),
    ({"page": "x"}, "Page"),
    ({"space_id": "x"}, "Space id"),
]


async def test_a_query_that_does_not_fit_is_422(acme: Owner) -> None:
    """The refusal names the parameter."""
    for query, member in BAD_QUERIES:
        status, error = await acme.call("GET", "/devices", **query)
        assert (status, error.partition(": ")[0]) == (422, member), query


async def test_a_change_is_told_to_the_device_only_when_something_is_different(edge: Any, acme: Owner) -> None:
    """info_version grows with a difference, never without."""
    device_id = await acme.device(details={"on": 1})
    device = await acme.call("PATCH", f"/devices/{device_id}", {"name": "New"})
    assert (device["name"], device["details"], device["info_version"]) == ("New", {"on": 1}, 1)
    assert (await acme.call("PATCH", f"/devices/{device_id}", {"name": "New"}))["info_version"] == 1
    assert (await acme.call("PATCH", f"/devices/{device_id}", {}))["info_version"] == 1
    assert (await acme.call("PATCH", f"/devices/{device_id}", {"details": {"on": 1}}))["info_version"] == 1
    assert (await acme.call("PATCH", f"/devices/{device_id}", {"details": {"on": True}}))["info_version"] == 2
    shard = (await acme.row(device_id))["shard"]
    assert b'"info_version":2' in await edge.services.redis.hget(keys.reply(shard), str(device_id))
    assert await acme.pool.fetchval("SELECT count(*) FROM reply_queue") == 0


DEEP: list[Any] = []
for _ in range(40):
    DEEP = [DEEP]
BAD_CHANGES: list[Any] = [
    {"name": "a\0"},
    {"name": "x" * 256},
    {"name": None},
    {"details": []},
    {"details": {"a": DEEP}},
    [],
]


async def test_a_change_that_does_not_fit_is_422(acme: Owner) -> None:
    """And changes nothing."""
    device_id = await acme.device(name="N")
    for body in BAD_CHANGES:
        assert (await acme.call("PATCH", f"/devices/{device_id}", body))[0] == 422, body
    assert (await acme.row(device_id))["info_version"] == 0


async def test_odd_but_legal_details_come_back_as_they_were_sent(acme: Owner) -> None:
    """Details are the owner's own JSON, whatever is in it."""
    device_id = await acme.device()
    details = {"": [None, {"deep": 10**30}], "é": "\U0001f600", "n": -1.5e300}
    assert (await acme.call("PATCH", f"/devices/{device_id}", {"details": details}))["details"] == details


async def test_a_move_takes_along_the_children_in_the_same_space(acme: Owner, globex: Owner) -> None:
    """Children that were put elsewhere stay there; nothing goes to a space of another tenant."""
    side = await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": "Side"})
    project = await acme.call("POST", "/projects", {"name": "Second"})
    goal = await acme.call("POST", "/spaces", {"project_id": project["id"], "name": "Goal"})
    parent = await acme.device()
    together = await acme.device(parent_id=parent)
    apart = await acme.device(parent_id=parent, space_id=side["id"])
    path = f"/devices/{parent}/move"
    moved = await acme.call("POST", path, {"space_id": goal["id"]})
    assert (moved["space"]["full_path"], moved["project_id"], moved["space_data_version"]) == ("Goal", project["id"], 2)
    assert str((await acme.row(together))["space_id"]) == goal["id"]
    assert str((await acme.row(apart))["space_id"]) == side["id"]
    assert (await acme.call("POST", path, {"space_id": goal["id"]}))["space_data_version"] == 2
    for space_id in (globex.space_id, ids.new_id()):
        assert await acme.call("POST", path, {"space_id": str(space_id)}) == (422, SPACE_UNKNOWN)


async def test_a_deleted_device_is_gone_and_its_key_is_marked(edge: Any, acme: Owner) -> None:
    """Deletion ends the keys: the prepared reply says so to every edge."""
    device_id = await acme.device()
    shard = (await acme.row(device_id))["shard"]
    assert await acme.call("DELETE", f"/devices/{device_id}") == {"success": True}
    for method in ("GET", "DELETE"):
        assert await acme.call(method, f"/devices/{device_id}") == (404, "Device not found")
    reply = await edge.services.redis.hget(keys.reply(shard), str(device_id))
    assert reply.endswith(b"x")


NO_IDS = ["x", "1", "null", "0" * 36, "%00", "é" * 36, "a" * 4000]


async def test_an_id_that_is_none_is_404(acme: Owner) -> None:
    """Whatever stands in the path, it is not found."""
    for text in NO_IDS:
        assert (await acme.ask("GET", f"/core/v1/organization/devices/{text}"))[0] == 404, text


async def test_the_config_can_be_changed_with_the_device(edge: Any, acme: Owner) -> None:
    """Whole, as the next version, which the device is told of; other members stay."""
    device_id = await acme.device(name="Door")
    path = f"/devices/{device_id}"
    changed = await acme.call("PATCH", path, {"configuration": {"interval_s": 10}})
    assert (changed["name"], changed["config_version"]) == ("Door", 1)
    assert (await acme.call("GET", f"{path}/config"))["config"] == {"interval_s": 10}
    changed = await acme.call("PATCH", path, {"name": "Gate", "details": {"a": 1}, "configuration": {}})
    assert (changed["name"], changed["details"], changed["config_version"]) == ("Gate", {"a": 1}, 2)
    row = await acme.row(device_id)
    assert b'"config_version":2' in await edge.services.redis.hget(keys.reply(row["shard"]), str(device_id))
    deep: Any = {}
    for _ in range(40):
        deep = {"a": deep}
    for wrong, status in (({"configuration": deep}, 422), ({"configuration": [1]}, 422), ({"config": {}}, 400)):
        assert (await acme.call("PATCH", path, wrong))[0] == status, wrong
    assert (await acme.row(device_id))["config_version"] == 2


async def test_status_is_online_or_offline_as_it_is_seen_from_here(acme: Owner) -> None:
    """Offline: never heard of, silent, said so, or behind a parent that is. An error of the device is none."""
    silent, told, failing, unseen, fine = [await acme.device() for _ in range(5)]
    await acme.seen(silent, offline=True)
    await acme.seen(told, "offline")
    await acme.seen(failing, "error")
    await acme.seen(fine)
    child = await acme.device(parent_id=silent)
    await acme.seen(child)
    shown = {one["id"]: one["status"] for one in (await acme.call("GET", "/devices"))["items"]}
    online = {str(failing), str(fine)}
    offline = {str(device_id) for device_id in (silent, told, unseen, child)}
    assert shown == dict.fromkeys(online, "online") | dict.fromkeys(offline, "offline")


async def test_a_key_can_be_tried_out(acme: Owner, globex: Owner) -> None:
    """Whose it is, what Cloud IDs of its models begin with, how much there is."""
    await acme.device()
    await acme.device(claimed=False)
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", await acme.device())
    info = await acme.call("GET", "/info")
    assert (info["id"], info["name"]) == (str(acme.organization_id), "Acme")
    assert info["short_code"] == await acme.pool.fetchval(
        "SELECT short_code FROM organizations WHERE id = $1", acme.organization_id
    )
    assert info["counts"] == {"projects": 1, "spaces": 1, "devices": 1, "models": 1}
    assert (await globex.call("GET", "/info"))["counts"]["devices"] == 0
    assert (await acme.call("GET", "/info", key="fgo_wrong"))[0] == 401
