"""Another unit takes a device's place; the same unit comes back after a factory reset; all of it is in the audit."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fleets import Fleet, Unit, fleet_of
from owners import Owner, owner

from gateway.stores.devices import audit

TAKEN = (422, {"error": "Sn has already been taken"})
NEW = {"sn": "NEW1", "mac": "02:09:00:00:00:01"}


@pytest.fixture
async def fleet(acme: Owner) -> Fleet:
    """Units of Acme's, which may call as often as they like."""
    await acme.pool.execute("UPDATE device_models SET rate_limit = 100000")
    return await fleet_of(acme)


async def registers(fleet: Fleet, **members: Any) -> tuple[int, Any]:
    return await fleet.ask("POST", "/v1/devices", fleet.registration(**members))


async def seen(acme: Owner, unit: Unit) -> Any:
    return await acme.call("GET", f"/devices/{unit.id}")


async def audited(acme: Owner, unit: Unit) -> list[str]:
    return [entry["action"] for entry in (await acme.call("GET", f"/devices/{unit.id}/audit"))["items"]][::-1]


async def was_heard(acme: Owner, unit: Unit) -> None:
    """A message of the unit was stored."""
    await acme.pool.execute("DELETE FROM device_state")
    await acme.seen(unit.id)
    await acme.pool.execute("UPDATE device_state SET last_seen_at = now() + interval '1 s'")


async def test_another_unit_takes_over_all_that_the_device_was(fleet: Fleet, acme: Owner) -> None:
    """Id, name, space, config, licences, labels and history; it gets new keys, the old unit is locked out (401)."""
    old = await fleet.unit(claimed=True)
    await acme.call("PATCH", f"/devices/{old.id}", {"name": "Hall 7", "details": {"floor": 2}})
    await acme.call("PUT", f"/devices/{old.id}/config", {"config": {"interval_s": 9}})
    await acme.pool.execute('UPDATE devices SET labels = \'{"room": "1"}\', applied_config_version = 1')
    await acme.message((await acme.row(old.id))["id"], datetime.now(UTC), telemetries={"temperature": 21})
    given = await acme.partner("POST", "/licenses", {"model_id": str(acme.model_id), "data": "all"})
    await acme.partner("POST", f"/licenses/{given['id']}/assign", {"device_id": old.id})
    await old.call("POST", "/licenses", {"id": given["id"], "state": "inuse"})
    begun, waits = [await acme.call("POST", f"/devices/{old.id}/commands", {"command": "reboot"}) for _ in range(2)]
    await old.call("POST", "/command", {"id": begun["id"], "status": "in_progress"})
    before = await seen(acme, old)

    asked = await acme.call("POST", f"/devices/{old.id}/replace", {"sn": " NEW1\n", "mac": "02-09-00-00-00-01"})
    assert asked["replacement"]["sn"] == "NEW1"
    assert asked["replacement"]["mac"] == NEW["mac"]
    assert (await old.ask("GET"))[0] == 200
    status, answer = await registers(fleet, **NEW, firmware_version="2.0.0", details={"board": "b"})
    assert (status, answer["id"]) == (201, old.id)
    new = Unit(fleet, answer["id"], answer["access_key"], NEW["sn"], NEW["mac"])
    for call in (("GET", ""), ("POST", "/telemetry"), ("GET", "/license")):
        assert (await old.ask(*call, body={"status": "online"} if call[0] == "POST" else None))[0] == 401
    after = await seen(acme, old)
    assert (after["sn"], after["mac"], after["firmware"]["version"]) == (NEW["sn"], NEW["mac"], "2.0.0")
    assert after["details"] == {"floor": 2, "board": "b"}
    for member in ("id", "name", "space", "project_id", "registered_at", "claimed_at", "config_version", "model"):
        assert after[member] == before[member], member
    assert ("replacement" in after, after["applied_config_version"]) == (False, 0)
    assert (await acme.row(old.id))["labels"] == {"room": "1"}
    told = await new.waits()
    assert (told["config_version"], told["new_licenses"], told["command"]) == (1, True, True)
    assert (await new.call("GET", "/config"))["config"] == {"interval_s": 9}
    offered = await new.call("GET", "/license")
    assert (offered["id"], offered["action"]) == (given["id"], "add")
    assert (await new.call("GET", "/command"))["id"] == waits["id"]
    assert len((await acme.call("GET", "/devices/histories", device_id=old.id, since=1, until=3e9)) or []) > 0
    events = [row["type"] for row in await acme.pool.fetch("SELECT type FROM event_outbox ORDER BY id")]
    assert events[-3:] == ["licenseUpdated", "commandUpdated", "deviceReplaced"]
    assert await audited(acme, old) == ["replacement_requested", "replaced"]


async def test_the_old_unit_registers_as_nobodys(fleet: Fleet, acme: Owner) -> None:
    """Locked out, also by the key of an overlap, it forgets its keys and is a new device, not its owner's any more."""
    old = await fleet.unit(claimed=True)
    await acme.call("POST", f"/devices/{old.id}/rotate_key")
    assert (await old.ask("GET"))[0] == 200
    await acme.call("POST", f"/devices/{old.id}/replace", NEW)
    await registers(fleet, **NEW)
    assert (await old.ask("GET"))[0] == 401
    status, answer = await registers(fleet, sn=old.sn, mac=old.mac)
    assert (status, answer["id"] != old.id) == (201, True)
    assert (await acme.call("GET", f"/devices/{answer['id']}"))[0] == 404


async def test_a_replacement_is_undone_until_the_new_unit_registered(fleet: Fleet, acme: Owner) -> None:
    """Then the unit is a device of its own; another unit may be named instead."""
    old = await fleet.unit(claimed=True)
    path = f"/devices/{old.id}/replace"
    assert await acme.call("DELETE", path) == (404, "No replacement was asked for")
    await acme.call("POST", path, NEW | {"sn": "WRONG"})
    await acme.call("POST", path, NEW)
    assert await acme.call("DELETE", path) == {"success": True}
    assert "replacement" not in await seen(acme, old)
    for sn in ("WRONG", NEW["sn"]):
        status, answer = await registers(fleet, **NEW | {"sn": sn})
        assert (status, answer["id"] != old.id) == (201, True)
    assert (await old.ask("GET"))[0] == 200
    assert await audited(acme, old) == ["replacement_requested", "replacement_requested", "replacement_undone"]
    await acme.call("POST", path, {"sn": "NEW2", "mac": "02:09:00:00:00:02"})
    await registers(fleet, sn="NEW2", mac="02:09:00:00:00:02")
    assert await acme.call("DELETE", path) == (404, "No replacement was asked for")


async def test_a_unit_that_registered_before_it_was_named_registers_anew(fleet: Fleet, acme: Owner) -> None:
    """While it is nobody's its registration ends (401), upon which it takes the place."""
    old, early = await fleet.unit(claimed=True), await fleet.unit()
    await acme.call("POST", f"/devices/{old.id}/replace", {"sn": early.sn, "mac": early.mac})
    assert (await early.ask("POST", "/telemetry", {"status": "online"}))[0] == 401
    status, answer = await registers(fleet, sn=early.sn, mac=early.mac)
    assert (status, answer["id"]) == (201, old.id)


async def test_only_the_named_unit_takes_the_place(fleet: Fleet, acme: Owner, edge: Any) -> None:
    """Not one of another MAC, serial number or model, nor one that has an owner; and of two that wait for it none."""
    old, other, mine = [await fleet.unit(claimed=True) for _ in range(3)]
    path = f"/devices/{old.id}/replace"
    assert await acme.call("POST", path, {"sn": mine.sn, "mac": mine.mac}) == (TAKEN[0], TAKEN[1]["error"])
    assert await acme.call("POST", path, {"sn": "NEW1"}) == (422, "Mac can't be blank")
    assert await acme.call("POST", path, NEW | {"sn": " "}) == (422, "Sn can't be blank")
    await acme.call("POST", path, NEW)
    for members in ({"sn": "NEW2", "mac": NEW["mac"]}, {"sn": NEW["sn"], "mac": "02:09:00:00:00:09"}):
        status, answer = await registers(fleet, **members)
        assert (status, answer["id"] != old.id) == (201, True)
    await acme.pool.execute("DELETE FROM devices WHERE sn = $1", NEW["sn"])
    await acme.call("POST", f"/devices/{other.id}/replace", NEW)
    status, answer = await registers(fleet, **NEW)
    assert (status, answer["id"] in (old.id, other.id)) == (201, False)
    globex = await owner(edge, "Globex")
    for method, where, body in (
        ("POST", path, NEW),
        ("DELETE", path, None),
        ("POST", f"/devices/{old.id}/confirm_return", None),
        ("GET", f"/devices/{old.id}/audit", None),
    ):
        assert await globex.call(method, where, body) == (404, "Device not found")


async def test_a_unit_that_is_anothers_stays_so(fleet: Fleet, acme: Owner, edge: Any) -> None:
    """Naming it does nothing to it, and tells nothing of it."""
    globex = await owner(edge, "Globex")
    await acme.pool.execute("UPDATE device_models SET public = true")
    foreign, old = await fleet.unit(), await fleet.unit(claimed=True)
    claim = {"space_id": str(globex.space_id), "mac": foreign.mac, "sn": foreign.sn}
    assert (await globex.call("POST", "/devices/claim", claim))["id"] == foreign.id
    unknown = await acme.call("POST", f"/devices/{old.id}/replace", NEW)
    named = await acme.call("POST", f"/devices/{old.id}/replace", {"sn": foreign.sn, "mac": foreign.mac})
    assert named.keys() == unknown.keys()
    assert (await foreign.ask("GET"))[0] == 200
    assert await registers(fleet, sn=foreign.sn, mac=foreign.mac) == TAKEN
    assert (await foreign.ask("GET"))[0] == 200


async def test_a_cloud_id_names_a_unit_of_models_that_have_one(acme: Owner) -> None:
    """Whatever MAC address it tells beside it."""
    model = await acme.call("POST", "/models", {"vendor": "A", "name": "B", "authentication": "cloud_id"})
    code = await acme.pool.fetchval("SELECT short_code FROM organizations WHERE id = $1", acme.organization_id)
    key = await acme.call("POST", f"/models/{model['id']}/hardware_keys", {})
    device_id = await acme.device(model_id=model["id"], mac=None, cloud_id=f"{code}{'a' * 16}")
    named = {"sn": "NEW1", "cloud_id": f"{code}{'b' * 16}"}
    assert (await acme.call("POST", f"/devices/{device_id}/replace", NEW))[0] == 422
    await acme.call("POST", f"/devices/{device_id}/replace", named)
    body = {"hardware_key": key["key"], "firmware_version": "1.0.0", "mac": NEW["mac"]} | named
    status, answer = await acme.ask("POST", "/v1/devices", body)
    assert (status, answer["id"]) == (201, str(device_id))


async def test_naming_units_that_never_registered_is_limited(fleet: Fleet, acme: Owner, edge: Any) -> None:
    """As wrong claims are: they would be claimed before they are there."""
    old = await fleet.unit(claimed=True)
    answers = [
        await acme.call("POST", f"/devices/{old.id}/replace", NEW | {"sn": f"GUESS{n}"})
        for n in range(edge.services.settings.wrong_claims_max + 1)
    ]
    assert [answer[0] for answer in answers if isinstance(answer, tuple)] == [429]


async def test_the_same_unit_comes_back_once_its_owner_confirmed_it(fleet: Fleet, acme: Owner) -> None:
    """Refused and noted (time, address, firmware) until then; then its next try gets a new key; the old one ends."""
    unit = await fleet.unit(claimed=True)
    await unit.waits()
    path = f"/devices/{unit.id}/confirm_return"
    assert await acme.call("POST", path) == (422, "No unit asked to come back within the last 24 hours")
    again = {"sn": unit.sn, "mac": unit.mac, "firmware_version": "1.1.0"}
    for _ in range(3):
        assert await registers(fleet, **again) == TAKEN
    noted = (await seen(acme, unit))["asked_to_come_back"]
    assert (noted["firmware_version"], noted["address"], "confirmed_until" in noted) == ("1.1.0", "127.0.0.1", False)
    assert (await unit.ask("GET"))[0] == 200
    confirmed = await acme.call("POST", path)
    assert (await seen(acme, unit))["asked_to_come_back"]["confirmed_until"] == confirmed["until"]
    assert (await unit.ask("GET"))[0] == 200
    status, answer = await registers(fleet, **again)
    assert (status, answer["id"], answer["access_key"] != unit.key) == (201, unit.id, True)
    assert (await unit.ask("GET"))[0] == 401
    back = Unit(fleet, unit.id, answer["access_key"], unit.sn, unit.mac)
    assert (await back.waits())["success"] is True
    after = await seen(acme, unit)
    assert (after["firmware"]["version"], "asked_to_come_back" in after) == ("1.1.0", False)
    await was_heard(acme, unit)
    assert await registers(fleet, **again) == TAKEN
    assert await audited(acme, unit) == ["return_asked", "return_confirmed", "returned", "return_asked"]


async def test_a_return_is_confirmed_within_a_day_and_used_within_another(fleet: Fleet, acme: Owner) -> None:
    """Neither an old attempt nor an old confirmation lets anybody in."""
    unit = await fleet.unit(claimed=True)
    again = {"sn": unit.sn, "mac": unit.mac}
    await registers(fleet, **again)
    path = f"/devices/{unit.id}/confirm_return"
    await acme.pool.execute("UPDATE devices SET asked_back_at = now() - interval '24 h 1 s'")
    assert (await acme.call("POST", path))[0] == 422
    await registers(fleet, **again)
    until = datetime.fromisoformat((await acme.call("POST", path))["until"])
    assert timedelta(hours=23) < until - datetime.now(UTC) <= timedelta(hours=24)
    await acme.pool.execute("UPDATE devices SET return_confirmed_until = now() - interval '1 s'")
    assert await registers(fleet, **again) == TAKEN
    assert await registers(fleet, **again | {"mac": "02:09:00:00:00:01"}) == TAKEN
    await acme.call("POST", path)
    assert await registers(fleet, **again | {"mac": "02:09:00:00:00:01"}) == TAKEN


async def test_a_lost_answer_is_given_again_until_the_unit_is_heard_of(fleet: Fleet, acme: Owner) -> None:
    """To a unit that took a place as to one that came back: the same id and key, within an hour."""
    old = await fleet.unit(claimed=True)
    await acme.call("POST", f"/devices/{old.id}/replace", NEW)
    first = await registers(fleet, **NEW)
    assert await registers(fleet, **NEW) == first
    await was_heard(acme, old)
    assert await registers(fleet, **NEW) == TAKEN
    await acme.pool.execute("DELETE FROM device_state")
    await acme.pool.execute("UPDATE devices SET unit_since = now() - interval '61 min'")
    assert await registers(fleet, **NEW) == TAKEN


async def test_the_audit_says_who_did_what_and_when(fleet: Fleet, acme: Owner) -> None:
    """Owners and vendors by their keys, units by their addresses; in pages, newest first, and bounded."""
    unit = await fleet.unit(claimed=True)
    await acme.call("POST", f"/devices/{unit.id}/rotate_key", {"overlap_s": 60})
    await acme.ask("POST", f"/core/v1/partner/devices/{unit.id}/rotate_key", key=acme.partner_key)
    await acme.call("POST", f"/devices/{unit.id}/replace", NEW)
    await registers(fleet, **NEW)
    page = await acme.call("GET", f"/devices/{unit.id}/audit", per_page=3)
    replaced, requested, by_vendor = page["items"]
    assert (replaced["actor"], replaced["actor_id"]) == ("unit", "127.0.0.1")
    assert replaced["details"] == {"sn": "NEW1", "previous_sn": unit.sn}
    assert (requested["actor"], requested["action"]) == ("owner", "replacement_requested")
    assert (by_vendor["actor"], by_vendor["details"]["key_version"]) == ("vendor", 2)
    assert datetime.fromisoformat(replaced["at"]) > datetime.now(UTC) - timedelta(minutes=5)
    (by_owner,) = (await acme.call("GET", f"/devices/{unit.id}/audit", per_page=3, page=2))["items"]
    assert by_owner["actor_id"] == requested["actor_id"] != by_vendor["actor_id"]
    assert by_owner["actor_id"].startswith("key:")
    assert (by_owner["action"], by_owner["details"]) == ("key_rotated", {"key_version": 1, "overlap_s": 60})


async def test_the_audit_is_bounded_and_the_next_owners_is_its_own(
    fleet: Fleet, acme: Owner, edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest entries are kept; who gets the device does not see who did what before."""
    monkeypatch.setattr(audit, "ENTRIES_MAX", 2)
    unit = await fleet.unit(claimed=True)
    for _ in range(3):
        await acme.call("POST", f"/devices/{unit.id}/rotate_key")
    entries = (await acme.call("GET", f"/devices/{unit.id}/audit"))["items"]
    assert [entry["details"]["key_version"] for entry in entries] == [3, 2]
    globex = await owner(edge, "Globex")
    await acme.pool.execute(
        "UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4 WHERE id = $1",
        unit.id,
        globex.organization_id,
        globex.project_id,
        globex.space_id,
    )
    assert (await globex.call("GET", f"/devices/{unit.id}/audit"))["items"] == []


async def test_a_wish_ends_with_who_had_it(fleet: Fleet, acme: Owner, edge: Any) -> None:
    """A device that got another owner, or was deleted, is nobody's place to take, and in nobody's way."""
    globex = await owner(edge, "Globex")
    still = await fleet.unit(claimed=True)
    sold, deleted = await fleet.unit(claimed=True), await fleet.unit(claimed=True)
    await acme.call("POST", f"/devices/{sold.id}/replace", NEW)
    await acme.call("POST", f"/devices/{deleted.id}/replace", NEW)
    await acme.call("DELETE", f"/devices/{deleted.id}")
    await acme.pool.execute(
        "UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4 WHERE id = $1",
        sold.id,
        globex.organization_id,
        globex.project_id,
        globex.space_id,
    )
    assert "replacement" not in await globex.call("GET", f"/devices/{sold.id}")
    await acme.call("POST", f"/devices/{still.id}/replace", NEW)
    status, answer = await registers(fleet, **NEW)
    assert (status, answer["id"]) == (201, still.id)
    await acme.call("DELETE", f"/devices/{still.id}")
    status, answer = await registers(fleet, **NEW)
    assert (status, answer["id"] in (sold.id, deleted.id, still.id)) == (201, False)


async def test_a_unit_with_others_below_it_is_not_taken_from_them(fleet: Fleet, acme: Owner) -> None:
    """Nor one that is below another: who vouched for it would lose it."""
    old, above = await fleet.unit(claimed=True), await fleet.unit()
    below = await fleet.unit(parent_id=above.id)
    for unit in (above, below):
        refused = await acme.call("POST", f"/devices/{old.id}/replace", {"sn": unit.sn, "mac": unit.mac})
        assert refused == (TAKEN[0], TAKEN[1]["error"])
        assert (await unit.ask("GET"))[0] == 200


async def test_a_child_is_replaced_and_comes_back_below_its_own_parent_only(fleet: Fleet, acme: Owner) -> None:
    """Its parent registers it, without a hardware key: another parent could vouch for any serial number."""
    parent, other = await fleet.unit(claimed=True), await fleet.unit(claimed=True)
    child = {"model_id": str(acme.model_id), "firmware_version": "1.0.0", "sn": "C1", "mac": "02:09:00:00:00:c1"}
    old = await parent.call("POST", "/children", child)
    await acme.pool.execute("UPDATE devices SET parent_id = $2 WHERE id = $1", old["id"], parent.id)
    named = {"sn": "C2", "mac": "02:09:00:00:00:c2"}
    await acme.call("POST", f"/devices/{old['id']}/replace", named)
    stranger = await other.call("POST", "/children", child | named)
    assert stranger["id"] != old["id"]
    await acme.call("DELETE", f"/devices/{stranger['id']}")
    new = await parent.call("POST", "/children", child | named)
    assert (new["id"], new["access_key"] != old["access_key"]) == (old["id"], True)
    assert await parent.call("POST", "/children", child | named) == new
    unit = Unit(fleet, new["id"], new["access_key"], "C2", named["mac"])
    assert (await Unit(fleet, old["id"], old["access_key"], "C1", "").ask("GET"))[0] == 401
    assert (await unit.ask("GET"))[0] == 200
    await was_heard(acme, unit)
    for who in (other, parent):
        assert await who.ask("POST", "/children", child | named) == TAKEN
        assert ("asked_to_come_back" in await seen(acme, unit)) == (who is parent)
    await acme.call("POST", f"/devices/{unit.id}/confirm_return")
    assert await other.ask("POST", "/children", child | named) == TAKEN
    back = await parent.call("POST", "/children", child | named)
    assert (back["id"], back["access_key"] != new["access_key"]) == (unit.id, True)
    assert (await unit.ask("GET"))[0] == 401
