"""Device models, their commands and their hardware keys."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from owners import Owner

from schemas import ids


async def test_a_model_has_defaults_and_can_be_changed(acme: Owner) -> None:
    """Everything but the method of authentication, within limits."""
    model = await acme.call("POST", "/models", {"vendor": "V", "name": "M"})
    path = f"/models/{model['id']}"
    assert (model["authentication"], model["offline_threshold_s"], model["rate_limit"]) == ("mac_sn", 300, 30)
    assert await acme.call("GET", path) == model
    change = {"vendor": "W", "name": "N", "offline_threshold_s": 60, "rate_limit": 5}
    assert await acme.call("PATCH", path, change) == model | change
    assert (await acme.call("PATCH", path, {"authentication": "cloud_id"}))[0] == 400
    assert [one["name"] for one in (await acme.call("GET", "/models"))["items"]] == ["N", "Sensor"]
    assert await acme.call("PATCH", path, {"name": "Sensor"}) == (422, "Name has already been taken")
    assert await acme.call("POST", "/models", {"vendor": "V", "name": "N"}) == (422, "Name has already been taken")
    for body in ({"rate_limit": 0}, {"rate_limit": 10**7}, {"offline_threshold_s": 9}, {"name": ""}, {"vendor": "\0"}):
        assert (await acme.call("PATCH", path, body))[0] == 422, body


async def test_a_new_rate_limit_puts_the_devices_in_line_for_a_new_reply(acme: Owner) -> None:
    """A worker rewrites what edges know; nothing else changes for the device."""
    device_id = await acme.device()
    await acme.pool.execute("DELETE FROM reply_queue")
    await acme.call("PATCH", f"/models/{acme.model_id}", {"vendor": "Other"})
    assert await acme.pool.fetchval("SELECT count(*) FROM reply_queue") == 0
    await acme.call("PATCH", f"/models/{acme.model_id}", {"rate_limit": 7})
    assert await acme.pool.fetchval("SELECT device_id FROM reply_queue") == device_id


async def test_a_model_is_deleted_only_without_devices(acme: Owner) -> None:
    """Also a deleted device's record keeps its model: it is what turns the device's key away."""
    device_id = await acme.device()
    path = f"/models/{acme.model_id}"
    assert await acme.call("DELETE", path) == (422, "Model still has devices")
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", device_id)
    assert await acme.call("DELETE", path) == (422, "Model still has devices")
    other = await acme.call("POST", "/models", {"vendor": "V", "name": "M"})
    await acme.call("POST", f"/models/{other['id']}/hardware_keys", {})
    await acme.call("POST", f"/models/{other['id']}/commands", {"name": "reboot"})
    assert await acme.call("DELETE", f"/models/{other['id']}") == {"success": True}
    assert await acme.call("GET", f"/models/{other['id']}") == (404, "Model not found")


async def test_commands_of_a_model_are_defined_changed_and_removed(acme: Owner) -> None:
    """A command without a friendly name is called by its name; names are unique in the model."""
    path = f"/models/{acme.model_id}/commands"
    field = {"name": "level", "type": "integer", "required": True, "description": "How loud", "options": []}
    made = await acme.call("POST", path, {"name": "beep", "description": "B", "timeout_s": 5, "fields": [field]})
    assert (made["friendly_name"], made["timeout_s"], made["fields"], made["needs_file"]) == ("beep", 5, [field], False)
    changed = await acme.call("PATCH", f"{path}/{made['id']}", {"friendly_name": "Beep!", "fields": []})
    assert changed == made | {"friendly_name": "Beep!", "fields": []}
    said = {"active": True, "several": True, "show_in_panel": True, "ask_again": False}
    assert {name: made[name] for name in said} == said
    opposite = {name: not value for name, value in said.items()}
    assert await acme.call("PATCH", f"{path}/{made['id']}", opposite) == changed | opposite
    assert await acme.call("PATCH", f"{path}/{made['id']}", said) == changed
    listed = (await acme.call("GET", path))["items"]
    assert [one["name"] for one in listed] == ["beep", "reboot", "tune"]
    assert listed[0] == changed
    taken = (422, "Name or friendly name has already been taken")
    assert await acme.call("POST", path, {"name": "reboot"}) == taken
    assert await acme.call("POST", path, {"name": "x", "friendly_name": "Restart"}) == taken
    assert await acme.call("PATCH", f"{path}/{made['id']}", {"name": "reboot"}) == taken
    bad: list[dict[str, Any]] = [
        {"name": ""},
        {"name": "x", "fields": [field, field]},
        {"name": "x", "fields": [{"name": "f", "type": "date"}]},
        {"name": "x", "fields": [field | {"name": str(n)} for n in range(51)]},
        {"name": "x", "timeout_s": 0},
        {"name": "x", "fields": [field | {"options": ["1"]}]},
        {"name": "x", "active": "no"},
    ]
    for body in bad:
        assert (await acme.call("POST", path, body))[0] == 422, body
    assert await acme.call("DELETE", f"{path}/{made['id']}") == {"success": True}
    for method, body in (("DELETE", None), ("PATCH", {})):
        assert await acme.call(method, f"{path}/{made['id']}", body) == (404, "Command not found")


async def test_a_hardware_key_is_shown_once_counts_its_use_and_ends(acme: Owner) -> None:
    """What is stored is a digest; a revoked key stays in the list."""
    path = f"/models/{acme.model_id}/hardware_keys"
    made = await acme.call("POST", path, {"name": "line 1"})
    presented = ids.present(made["key"])
    assert presented is not None
    assert (presented.kind, str(presented.id)) == ("hardware", made["id"])
    await acme.call("POST", path, {})
    for _ in range(2):
        await acme.device(hardware_key_id=made["id"])
    first, second = (await acme.call("GET", path))["items"]
    assert (first["name"], first["usage_count"], first["revoked_at"]) == ("line 1", 2, None)
    assert (second["name"], second["usage_count"]) == ("", 0)
    assert "key" not in first
    for _ in range(2):
        assert await acme.call("DELETE", f"{path}/{made['id']}") == {"success": True}
    assert (await acme.call("GET", path))["items"][0]["revoked_at"] is not None
    assert await acme.call("DELETE", f"{path}/{ids.new_id()}") == (404, "Hardware key not found")


async def test_models_are_found_by_a_word_and_listed_with_parameters_and_commands(acme: Owner) -> None:
    """`search` in vendor or name, in any case; a per cent sign is one. Parameters are the telemetry keys that it maps,
    and those that its newest devices report, each with what they report.
    """
    mapped = {"event_mappings": {"rh": "humidity.relativeHumidity", "t": "humidity.temperature"}}
    made = await acme.call("POST", "/models", {"vendor": "Söt", "name": "100% Wet", "device_type": "humidity"} | mapped)
    await acme.call("POST", f"/models/{made['id']}/commands", {"name": "dry"})
    for search, wanted in (("wet", ["100% Wet"]), ("sÖT", ["100% Wet"]), ("0%", ["100% Wet"]), ("%", ["100% Wet"])):
        found = (await acme.call("GET", "/models", search=search))["items"]
        assert [one["name"] for one in found] == wanted, search
    assert [command["name"] for command in found[0]["commands"]] == ["dry"]
    assert found[0]["parameters"] == [
        {"name": "rh", "type": None, "event": "humidity.relativeHumidity"},
        {"name": "t", "type": None, "event": "humidity.temperature"},
    ]
    for values in ({"gone": 1}, {"t": 20.5, "door": True}, {"door": "old", "note": "x"}, {"t": 1}):
        await acme.seen(await acme.device(model_id=UUID(made["id"])), **values)
    await acme.seen(await acme.device(), other=1)
    deleted = await acme.device(model_id=UUID(made["id"]), deleted_at=datetime.now(UTC))
    await acme.seen(deleted, ended=1)
    [found] = (await acme.call("GET", "/models", search="wet"))["items"]
    assert [(one["name"], one["type"]) for one in found["parameters"]] == [
        ("door", "string"),
        ("note", "string"),
        ("rh", None),
        ("t", "number"),
    ]
    await acme.seen(await acme.device(model_id=UUID(made["id"])), **{f"k{number:03}": 1 for number in range(200)})
    [found] = (await acme.call("GET", "/models", search="wet"))["items"]
    named = [one["name"] for one in found["parameters"]]
    assert (len(named), {"rh", "t"} < set(named)) == (100, True)
    assert (await acme.call("GET", "/models", search="_"))["items"] == []
    everything = (await acme.call("GET", "/models"))["items"]
    assert [(one["name"], len(one["commands"])) for one in everything] == [("100% Wet", 1), ("Sensor", 2)]
