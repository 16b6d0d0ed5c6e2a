"""Every change of a device is told of in the transaction that makes it."""

from typing import Any
from uuid import UUID

from owners import Owner

from gateway.stores.tenants import projects, spaces


async def told(owner: Owner) -> list[tuple[str, UUID, UUID, Any]]:
    """What waits for the log: type, device, project, data without its time. Waits no more after that."""
    rows = await owner.pool.fetch(
        "WITH gone AS (DELETE FROM event_outbox RETURNING *) SELECT type, device_id, project_id, data, id FROM gone"
    )
    found = []
    for row in sorted(rows, key=lambda row: int(row["id"])):
        data = row["data"]
        if row["type"] != "labelsChanged":
            data = data[row["type"]]
            assert data.pop("updateTime")
        found.append((row["type"], row["device_id"], row["project_id"], data))
    return found


async def test_a_new_name_is_a_changed_label_whoever_gives_it(edge: Any, acme: Owner) -> None:
    """Its owner or the device itself; the same name again, and other changes, tell nothing."""
    device_id = await acme.device()
    project = acme.project_id

    async def name(name: str) -> None:
        await acme.call("PATCH", f"/devices/{device_id}", {"name": name})

    await name("Hall")
    added = {"added": {"name": "Hall"}, "modified": {}, "removed": []}
    assert await told(acme) == [("labelsChanged", device_id, project, added)]
    await name("Hall")
    await acme.call("PATCH", f"/devices/{device_id}", {"details": {"a": 1}})
    assert await told(acme) == []
    key = edge.services.access_keys.issue(str(device_id), 0)
    status, _ = await acme.ask("PUT", f"/v1/devices/{device_id}", {"name": "Cellar"}, key=key)
    assert status == 200
    modified = {"added": {}, "modified": {"name": "Cellar"}, "removed": []}
    assert await told(acme) == [("labelsChanged", device_id, project, modified)]
    await name("")
    removed = {"added": {}, "modified": {}, "removed": ["name"]}
    assert await told(acme) == [("labelsChanged", device_id, project, removed)]


async def test_nobody_is_told_of_a_device_that_nobody_claimed(edge: Any, acme: Owner) -> None:
    """It may call itself what it wants."""
    device_id = await acme.device(claimed=False)
    key = edge.services.access_keys.issue(str(device_id), 0)
    assert (await acme.ask("PUT", f"/v1/devices/{device_id}", {"name": "X"}, key=key))[0] == 200
    assert (await acme.ask("DELETE", f"/v1/devices/{device_id}", key=key))[0] == 200
    assert await told(acme) == []


async def test_a_move_is_told_to_every_project_it_touches(acme: Owner) -> None:
    """Of the device and of those that move along; once within a project, in both between two."""
    parent = await acme.device()
    child = await acme.device(parent_id=parent)
    async with acme.pool.acquire() as connection:
        near = await spaces.create(connection, acme.organization_id, acme.project_id, "Near")
        other = await projects.create(connection, acme.organization_id, "Other")
        far = await spaces.create(connection, acme.organization_id, other.id, "Far")
    await acme.call("POST", f"/devices/{parent}/move", {"space_id": str(near.id)})
    found = await told(acme)
    places = {
        "fromProjectId": str(acme.project_id),
        "fromSpaceId": str(acme.space_id),
        "toProjectId": str(acme.project_id),
        "toSpaceId": str(near.id),
    }
    assert sorted(found, key=str) == sorted(
        [("deviceMoved", device, acme.project_id, places) for device in (parent, child)], key=str
    )
    await acme.call("POST", f"/devices/{child}/move", {"space_id": str(far.id)})
    found = await told(acme)
    assert [(kind, device, project) for kind, device, project, _ in found] == [
        ("deviceMoved", child, acme.project_id),
        ("deviceMoved", child, other.id),
    ]
    assert found[0][3]["toProjectId"] == str(other.id)
    await acme.call("POST", f"/devices/{child}/move", {"space_id": str(far.id)})
    assert await told(acme) == []


async def test_commands_that_end_with_their_device_are_told_of(acme: Owner) -> None:
    """Each before the deletion that ended it."""
    device_id = await acme.device()
    sent = await acme.call("POST", f"/devices/{device_id}/commands", {"command": "reboot"})
    await told(acme)
    await acme.call("DELETE", f"/devices/{device_id}")
    ended = {"commandId": sent["id"], "name": "reboot", "status": "aborted", "message": "device deleted"}
    assert await told(acme) == [
        ("commandUpdated", device_id, acme.project_id, ended),
        ("deviceDeleted", device_id, acme.project_id, {}),
    ]


async def test_what_a_model_is_to_the_v2_api_is_set_like_the_rest_of_it(acme: Owner) -> None:
    """Device type, product number and mappings; what makes no sense together is refused, in either order."""
    path = f"/models/{acme.model_id}"
    model = await acme.call("GET", path)
    assert (model["device_type"], model["product_number"], model["event_mappings"]) == ("generic", "", {})
    change = {"device_type": "temperature", "product_number": "102058", "event_mappings": {"temp": "temperature"}}
    model = await acme.call("PATCH", path, change)
    assert {name: model[name] for name in change} == change
    assert await acme.call("GET", path) == model
    sentence = "Event mappings: a device of type co2 emits no temperature events"
    assert await acme.call("PATCH", path, {"device_type": "co2"}) == (422, sentence)
    wrong = {"event_mappings": {"x": "co2"}}
    assert await acme.call("PATCH", path, wrong) == (
        422,
        "Event mappings: a device of type temperature emits no co2 events",
    )
    assert (await acme.call("PATCH", path, {"event_mappings": {"a\0": "temperature"}}))[0] == 422
    assert (await acme.call("PATCH", path, {"device_type": ""}))[0] == 422
    assert (await acme.call("PATCH", path, {"event_mappings": {}}))["event_mappings"] == {}
    made = await acme.call("POST", "/models", {"vendor": "V", "name": "N", **change})
    assert made["event_mappings"] == change["event_mappings"]
    assert await acme.call("POST", "/models", {"vendor": "V", "name": "M", **wrong, "device_type": "touch"}) == (
        422,
        "Event mappings: a device of type touch emits no co2 events",
    )
