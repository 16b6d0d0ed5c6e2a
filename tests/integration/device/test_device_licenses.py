"""A device fetches its licences, checks who signed them, and tells what became of them."""

from typing import Any

from fleets import Fleet, Unit
from owners import Owner, outbox

from schemas.license_signatures import is_good


async def made(acme: Owner, unit: Unit | None = None, **members: Any) -> Any:
    """A licence, given to a unit."""
    body = {"model_id": str(acme.model_id), "data": '{"feature":"night"}'} | members
    created = await acme.partner("POST", "/licenses", body)
    if unit is None:
        return created
    return await acme.partner("POST", f"/licenses/{created['id']}/assign", {"device_id": unit.id})


async def told(unit: Unit, license_id: str, state: str, **members: Any) -> tuple[int, Any]:
    return await unit.ask("POST", "/licenses", {"id": license_id, "state": state, **members})


async def test_what_is_pending_is_one_object_until_nothing_is(fleet: Fleet, acme: Owner) -> None:
    """`GET license`: the first pending item with `action`, `expires_at` where there is one, and the time; then `{}`."""
    unit = await fleet.unit(claimed=True)
    assert (await unit.waits())["new_licenses"] is False
    assert await unit.call("GET", "/license") == {}
    assert await unit.call("GET", "/licenses") == []
    first = await made(acme, unit, expires_at="2099-01-01T00:00:00Z")
    second = await made(acme, unit, data="other")
    assert (await unit.waits())["new_licenses"] is True
    got = await unit.call("GET", "/license")
    assert got.pop("current_time")
    assert got == {
        "id": first["id"],
        "device_id": unit.id,
        "data": '{"feature":"night"}',
        "signature": first["signature"],
        "action": "add",
        "expires_at": "2099-01-01T00:00:00Z",
    }
    assert await unit.call("GET", "/licenses") == [
        {name: got[name] for name in ("id", "device_id", "data", "signature", "expires_at")} | {"add": True},
        {
            "id": second["id"],
            "device_id": unit.id,
            "data": "other",
            "signature": second["signature"],
            "add": True,
        },
    ]
    status, answer = await told(unit, first["id"], "inuse")
    assert (status, answer) == (
        200,
        {name: got[name] for name in ("id", "device_id", "data", "signature", "expires_at")},
    )
    assert (await unit.call("GET", "/license"))["id"] == second["id"]
    assert (await told(unit, second["id"], "inuse"))[1]["expires_at"] is None
    assert await unit.call("GET", "/license") == {}
    assert (await unit.waits())["new_licenses"] is False


async def test_a_device_checks_the_signature_with_the_public_key(fleet: Fleet, acme: Owner) -> None:
    """RSA-2048 PKCS#1 v1.5 SHA-256 over the bytes of `data`, in base64; Ed25519 by model."""
    unit = await fleet.unit(claimed=True)
    for algorithm in ("rsa", "ed25519"):
        await acme.call("PATCH", f"/models/{acme.model_id}", {"license_algorithm": algorithm})
        given = await made(acme, unit, data="grüße\n")
        key = await acme.partner("GET", f"/license_keys/{given['key_id']}")
        assert (key["algorithm"], given["algorithm"]) == (algorithm, algorithm)
        got = await unit.call("GET", "/license")
        assert is_good(key["public_key"], got["data"], got["signature"])
        assert not is_good(key["public_key"], got["data"] + " ", got["signature"])
        await told(unit, got["id"], "inuse")


async def test_a_change_and_a_revocation_are_offered_as_update_and_remove(fleet: Fleet, acme: Owner) -> None:
    """`extend` and PATCH: `update`; `revoke`: `remove`; each is told with the next answer, each step is an event."""
    unit = await fleet.unit(claimed=True)
    given = await made(acme, unit)
    await told(unit, given["id"], "inuse")
    for method, path, body, action, state, after in (
        ("POST", "/extend", {"expires_at": "2098-01-01T00:00:00Z"}, "update", "pending_update", "inuse"),
        ("PATCH", "", {"data": "more"}, "update", "pending_update", "inuse"),
        ("POST", "/revoke", None, "remove", "pending_remove", "removed"),
    ):
        changed = await acme.partner(method, f"/licenses/{given['id']}{path}", body)
        assert (changed["state"], changed["action"]) == (state, action)
        assert (await unit.waits())["new_licenses"] is True
        got = await unit.call("GET", "/license")
        assert (got["action"], got["data"], got["signature"]) == (action, changed["data"], changed["signature"])
        assert (await unit.call("GET", "/licenses"))[0][action] is True
        assert (await told(unit, given["id"], after))[0] == 200
        assert (await unit.waits())["new_licenses"] is False
    events = [kind for kind, _ in await outbox(acme.pool)].count("licenseUpdated")
    assert events == 8


async def test_the_same_state_twice_is_fine_and_every_other_step_is_refused(fleet: Fleet, acme: Owner) -> None:
    """200 both times; 422 `State can't switch to X from Y`, also for a state that there is none of."""
    unit = await fleet.unit(claimed=True)
    given = await made(acme, unit)
    for state, wanted in (
        ("removed", "removed from pending_add"),
        ("flying", "flying from pending_add"),
        ("inuse", None),
        ("inuse", None),
        ("pending", "pending from inuse"),
        ("removed", "removed from inuse"),
        ("error", "error from inuse"),
    ):
        status, answer = await told(unit, given["id"], state)
        assert status == (200 if wanted is None else 422), state
        if wanted is not None:
            assert answer == {"error": f"State can't switch to {wanted}"}
    await acme.partner("POST", f"/licenses/{given['id']}/revoke")
    for _ in range(2):
        assert (await told(unit, given["id"], "removed"))[0] == 200


async def test_a_licence_is_its_devices_own(fleet: Fleet, acme: Owner) -> None:
    """404 `Couldn't find License` for another's, an available, an unknown one, and what is no id."""
    unit, other = await fleet.unit(claimed=True), await fleet.unit()
    foreign, available = await made(acme, other), await made(acme)
    for license_id in (foreign["id"], available["id"], unit.id, "7", ""):
        assert await told(unit, license_id, "inuse") == (404, {"error": "Couldn't find License"})


async def test_an_error_stays_with_its_step_until_the_vendor_tries_again(fleet: Fleet, acme: Owner) -> None:
    """`error` from any pending; `retry` leads back to the same pending; what is in error is not offered."""
    unit = await fleet.unit(claimed=True)
    given = await made(acme, unit)
    path = f"/licenses/{given['id']}"
    for action, before, applied in (("add", None, "inuse"), ("update", "/extend", "inuse"), ("remove", "/revoke", "x")):
        if before is not None:
            body = {"expires_at": None} if before == "/extend" else None
            await acme.partner("POST", f"{path}{before}", body)
        for _ in range(2):
            assert (await told(unit, given["id"], "error", error="disk full"))[0] == 200
        seen = await acme.partner("GET", path)
        assert (seen["state"], seen["action"], seen["error"]) == ("error", action, "disk full")
        assert await unit.call("GET", "/license") == {}
        assert await told(unit, given["id"], "inuse") == (
            422,
            {"error": "State can't switch to inuse from error"},
        )
        for _ in range(2):
            again = await acme.partner("POST", f"{path}/retry")
            assert (again["state"], again["error"]) == (f"pending_{action}", None)
        assert (await unit.call("GET", "/license"))["action"] == action
        if applied == "inuse":
            assert (await told(unit, given["id"], "inuse"))[0] == 200


async def test_a_licence_that_is_only_verified_stays_pending_and_holds_up_no_other(fleet: Fleet, acme: Owner) -> None:
    """`pending`: verified, not used yet: no change. The others come first then."""
    unit = await fleet.unit(claimed=True)
    first, second = await made(acme, unit), await made(acme, unit)
    assert (await unit.call("GET", "/license"))["id"] == first["id"]
    for _ in range(2):
        assert (await told(unit, first["id"], "pending"))[0] == 200
    assert (await acme.partner("GET", f"/licenses/{first['id']}"))["state"] == "pending_add"
    assert (await unit.call("GET", "/license"))["id"] == second["id"]
    await told(unit, second["id"], "inuse")
    assert (await unit.call("GET", "/license"))["id"] == first["id"]
    assert (await unit.waits())["new_licenses"] is True


async def test_a_change_that_the_device_has_not_read_is_not_lost(fleet: Fleet, acme: Owner) -> None:
    """It tells that it uses what it read before: the licence stays pending, and what is new is offered."""
    unit = await fleet.unit(claimed=True)
    given = await made(acme, unit)
    assert (await unit.call("GET", "/license"))["data"] == '{"feature":"night"}'
    await acme.partner("PATCH", f"/licenses/{given['id']}", {"data": "newer"})
    assert (await told(unit, given["id"], "inuse"))[0] == 200
    assert (await unit.waits())["new_licenses"] is True
    assert (await unit.call("GET", "/license"))["data"] == "newer"
    assert (await told(unit, given["id"], "inuse"))[0] == 200
    assert await unit.call("GET", "/license") == {}


async def test_licences_in_the_form_of_a_public_vendor_agent(fleet: Fleet, acme: Owner) -> None:
    """It asks for one object after another until an empty one comes, with more members than are known."""
    unit = await fleet.unit()
    wanted = {(await made(acme, unit, data=f"feature {n}"))["id"] for n in range(3)}
    applied = set()
    while given := await unit.call("GET", "/license"):
        assert isinstance(given["data"], str)
        body = {"id": given["id"], "state": "inuse", "error": None, "device_id": unit.id, "agent": "1.2"}
        applied.add((await unit.call("POST", "/licenses", body))["id"])
    assert applied == wanted


async def test_a_deleted_devices_licences_are_available_again(fleet: Fleet, acme: Owner) -> None:
    """Its vendor may give them to another; one that was removed is done with. The project is told."""
    unit, other = await fleet.unit(claimed=True), await fleet.unit()
    used, failed, gone = [await made(acme, unit) for _ in range(3)]
    await told(unit, used["id"], "inuse")
    await told(unit, failed["id"], "error", error="no")
    await told(unit, gone["id"], "inuse")
    await acme.partner("POST", f"/licenses/{gone['id']}/revoke")
    await told(unit, gone["id"], "removed")
    await acme.call("DELETE", f"/devices/{unit.id}")
    assert (await unit.ask("GET", "/license"))[0] == 401
    for given, state in ((used, "available"), (failed, "available"), (gone, "removed")):
        seen = await acme.partner("GET", f"/licenses/{given['id']}")
        assert (seen["state"], seen["error"]) == (state, None)
    assert [kind for kind, _ in await outbox(acme.pool)][-3:] == ["licenseUpdated", "licenseUpdated", "deviceDeleted"]
    again = await acme.partner("POST", f"/licenses/{used['id']}/assign", {"device_id": other.id})
    assert (again["state"], again["device_id"]) == ("pending_add", other.id)
    assert (await other.call("GET", "/license"))["id"] == used["id"]
