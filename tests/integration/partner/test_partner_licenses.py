"""A vendor makes licences for its models, gives them to devices, changes them and takes them back; owners look."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from owners import Owner, ago
from prometheus_client import CollectorRegistry

from gateway.stores.accounts import sealed_secrets
from schemas.ids import new_id
from schemas.license_signatures import LicenseKey, is_good
from schemas.metrics import Metrics
from schemas.redis import Redis
from schemas.secrets import LICENSE_KEYS
from workers.license_clock import LicenseClock


async def made(acme: Owner, device_id: UUID | None = None, state: str | None = None, **members: Any) -> Any:
    """A licence, given to a device, in some state."""
    found = await acme.partner("POST", "/licenses", {"model_id": str(acme.model_id), "data": "all"} | members)
    if device_id is not None:
        found = await acme.partner("POST", f"/licenses/{found['id']}/assign", {"device_id": str(device_id)})
    if state is not None:
        await acme.pool.execute("UPDATE licenses SET state = $2 WHERE id = $1", found["id"], state)
    return found


async def test_a_vendor_makes_reads_changes_and_deletes_licences(acme: Owner) -> None:
    """POST, GET one, PATCH, DELETE; made available, signed over its data, signed anew when that changes."""
    made_ = await made(acme, name="Night mode", expires_at="2099-01-01T00:00:00Z")
    assert (made_["state"], made_["action"], made_["device_id"]) == ("available", None, None)
    path = f"/licenses/{made_['id']}"
    assert await acme.partner("GET", path) == made_
    key = await acme.partner("GET", f"/license_keys/{made_['key_id']}")
    assert is_good(key["public_key"], "all", made_["signature"])
    changed = await acme.partner("PATCH", path, {"data": "less", "expires_at": None})
    assert (changed["data"], changed["expires_at"], changed["name"], changed["state"]) == (
        "less",
        None,
        "Night mode",
        "available",
    )
    assert is_good(key["public_key"], "less", changed["signature"])
    assert await acme.partner("DELETE", path) == {"success": True}
    assert await acme.partner("GET", path) == (404, "License not found")


async def test_licences_are_found_by_state_device_and_model(acme: Owner) -> None:
    """GET with `state`, `device_id`, `model_id`, and pages; `error` is that of any step."""
    device_id = await acme.device()
    other = await acme.call("POST", "/models", {"vendor": "Acme", "name": "Other"})
    available = await made(acme)
    failed = [await made(acme, device_id, state) for state in ("error_add", "error_remove")]
    of_other = await made(acme, model_id=other["id"])
    for query, wanted in (
        ({}, [available, *failed, of_other]),
        ({"state": "error"}, failed),
        ({"state": "available"}, [available, of_other]),
        ({"device_id": device_id}, failed),
        ({"model_id": other["id"]}, [of_other]),
        ({"per_page": 2, "page": 2}, [failed[1], of_other]),
    ):
        answer = await acme.partner("GET", "/licenses", **query)
        assert [one["id"] for one in answer["items"]] == [one["id"] for one in wanted], query
    assert (await acme.partner("GET", "/licenses", state="flying"))[0] == 422


@pytest.mark.parametrize(
    ("state", "call", "word"),
    [
        ("inuse", "assign", "pending_add"),
        ("removed", "assign", "pending_add"),
        ("pending_add", "extend", "pending_update"),
        ("expired", "extend", "pending_update"),
        ("error_update", "extend", "pending_update"),
        ("pending_add", "revoke", "pending_remove"),
        ("pending_update", "revoke", "pending_remove"),
        ("removed", "revoke", "pending_remove"),
        ("inuse", "retry", "pending"),
        ("expired", "retry", "pending"),
        ("pending_remove", "change", "pending_update"),
        ("removed", "change", "pending_update"),
        ("inuse", "delete", "deleted"),
        ("pending_add", "delete", "deleted"),
    ],
)
async def test_every_other_step_is_refused(acme: Owner, state: str, call: str, word: str) -> None:
    """422 `State can't switch to X from Y`, and nothing is done."""
    device_id = await acme.device()
    given = await made(acme, device_id, state)
    bodies = {"assign": {"device_id": str(device_id)}, "extend": {"expires_at": None, "data": "x"}}
    bodies["change"] = {"data": "x"}
    method, path = {"delete": ("DELETE", ""), "change": ("PATCH", "")}.get(call, ("POST", f"/{call}"))
    seen = await acme.partner("GET", f"/licenses/{given['id']}")
    refused = (422, f"State can't switch to {word} from {seen['state']}")
    assert await acme.partner(method, f"/licenses/{given['id']}{path}", bodies.get(call)) == refused
    assert await acme.partner("GET", f"/licenses/{given['id']}") == seen


async def test_the_same_step_twice_is_fine(acme: Owner) -> None:
    """Assigned to the same device, extended, revoked, tried again: 200 each time. To another device it is refused."""
    device_id, other = await acme.device(), await acme.device()
    given = await made(acme, device_id)
    path = f"/licenses/{given['id']}"
    assert (await acme.partner("POST", f"{path}/assign", {"device_id": str(device_id)}))["state"] == "pending_add"
    taken = await acme.partner("POST", f"{path}/assign", {"device_id": str(other)})
    assert taken == (422, "State can't switch to pending_add from pending_add")
    assert (await acme.partner("POST", f"{path}/retry"))["state"] == "pending_add"
    await acme.pool.execute("UPDATE licenses SET state = 'inuse'")
    for step, state, body in (("extend", "pending_update", {"expires_at": None}), ("revoke", "pending_remove", None)):
        for _ in range(2):
            assert (await acme.partner("POST", f"{path}/{step}", body))["state"] == state
        await acme.pool.execute("UPDATE licenses SET state = 'inuse'")


async def test_a_licence_fits_its_device_its_size_and_its_time(acme: Owner, globex: Owner) -> None:
    """Another model's device, another vendor's, data over 16 KiB (of UTF-8), an end that has passed; and too many."""
    await acme.pool.execute("UPDATE device_models SET public = true")
    device_id, foreign = await acme.device(), await globex.device()
    other = await acme.call("POST", "/models", {"vendor": "Acme", "name": "Other"})
    of_other, given = await made(acme, model_id=other["id"]), await made(acme)
    path = f"/licenses/{given['id']}"
    for license_id, device, wanted in (
        (of_other["id"], device_id, (422, "Device id is a device of another model than the license")),
        (given["id"], foreign, (404, "Device not found")),
        (given["id"], new_id(), (404, "Device not found")),
        (new_id(), device_id, (404, "License not found")),
    ):
        assert await acme.partner("POST", f"/licenses/{license_id}/assign", {"device_id": str(device)}) == wanted
    body = {"model_id": str(acme.model_id), "data": "ü" * 8192}
    assert (await acme.partner("POST", "/licenses", body))["state"] == "available"
    assert await acme.partner("POST", "/licenses", body | {"data": "ü" * 8193}) == (
        422,
        "Data must be at most 16384 bytes",
    )
    past = {"expires_at": ago(seconds=1).isoformat()}
    assert await acme.partner("POST", "/licenses", body | past) == (422, "Expires at must be in the future")
    assert await acme.partner("PATCH", path, past) == (422, "Expires at must be in the future")
    for end, wanted in (
        ("9999-12-31T23:59:59-14:00", "Expires at must be before the year 3000"),
        ("0001-01-01T00:00:00+14:00", "Expires at must be in the future"),
        ("2098-01-01T00:00:00", None),
        (4_000_000_000_000, None),
        (True, None),
    ):
        for method, where, rest in (("POST", "/licenses", body), ("PATCH", path, {}), ("POST", f"{path}/extend", {})):
            status, answer = await acme.partner(method, where, rest | {"expires_at": end})
            assert (status, wanted in (None, answer) or "State" in answer) == (422, True), (method, end, answer)
    await acme.pool.execute("UPDATE licenses SET expires_at = now() - interval '1 s' WHERE id = $1", given["id"])
    assign = {"device_id": str(device_id)}
    assert await acme.partner("POST", f"{path}/assign", assign) == (422, "Expires at must be in the future")
    assert await acme.partner("POST", "/licenses", body | {"model_id": str(globex.model_id)}) == (
        404,
        "Model not found",
    )
    await acme.pool.execute(
        """INSERT INTO licenses (id, model_id, device_id, data, signature, key_id, state, created_at, updated_at)
           SELECT gen_random_uuid(), model_id, $2, data, signature, key_id, 'inuse', now(), now()
             FROM licenses, generate_series(1, 100) WHERE id = $1""",
        given["id"],
        device_id,
    )
    full = await acme.partner("POST", f"/licenses/{(await made(acme))['id']}/assign", assign)
    assert full == (422, "A device has at most 100 licenses")


async def test_an_owner_sees_the_licences_of_its_devices_and_nobody_elses(acme: Owner, globex: Owner) -> None:
    """GET: states and ends, not what is signed; by state, device, model. Another tenant finds none of it."""
    device_id = await acme.device()
    given, _ = await made(acme, device_id, name="Night mode"), await made(acme)
    shown = {"id": given["id"], "model_id": str(acme.model_id), "device_id": str(device_id), "name": "Night mode"}
    shown |= {"state": "pending_add", "action": "add", "error": None, "expires_at": None}
    for query in ({}, {"state": "pending_add"}, {"device_id": device_id}, {"model_id": acme.model_id}):
        items = (await acme.call("GET", "/licenses", **query))["items"]
        assert items == [shown | {"updated_at": given["updated_at"]}], query
    assert (await acme.call("GET", "/licenses", state="inuse"))["items"] == []
    assert await acme.call("GET", f"/licenses/{given['id']}") == items[0]
    for call in (globex.call, globex.partner):
        assert (await call("GET", "/licenses"))["items"] == []
        assert await call("GET", f"/licenses/{given['id']}") == (404, "License not found")
    for method, path, body in (
        ("PATCH", "", {"data": "x"}),
        ("DELETE", "", None),
        ("POST", "/assign", {"device_id": str(device_id)}),
        ("POST", "/extend", {"expires_at": None}),
        ("POST", "/revoke", None),
        ("POST", "/retry", None),
    ):
        assert await globex.partner(method, f"/licenses/{given['id']}{path}", body) == (404, "License not found")


async def test_a_rotated_key_signs_what_comes_and_the_one_before_stays_readable(acme: Owner, globex: Owner) -> None:
    """One key of each algorithm signs; licences keep their signatures. Another vendor sees none of the keys."""
    before = await made(acme)
    rotated = await acme.partner("POST", "/license_keys")
    later = await made(acme)
    assert (before["key_id"] != later["key_id"], later["key_id"]) == (True, rotated["id"])
    new, old = (await acme.partner("GET", "/license_keys"))["items"]
    assert (new["id"], new["retired_at"], old["id"]) == (rotated["id"], None, before["key_id"])
    assert old["retired_at"] is not None
    seen = await acme.partner("GET", f"/licenses/{before['id']}")
    assert is_good(old["public_key"], seen["data"], seen["signature"])
    assert not is_good(new["public_key"], seen["data"], seen["signature"])
    assert (await globex.partner("GET", "/license_keys"))["items"] == []
    assert await globex.partner("GET", f"/license_keys/{new['id']}") == (404, "License key not found")
    assert "BEGIN PUBLIC KEY" in new["public_key"]


async def test_private_keys_are_sealed_at_rest(edge: Any, acme: Owner) -> None:
    """As other secrets are: by purpose and row, and encrypted anew with them."""
    given = await made(acme)
    row = await acme.pool.fetchrow("SELECT private, public FROM license_keys")
    vault = edge.services.settings.vault(LICENSE_KEYS)
    key = LicenseKey.read(vault.open(row["private"], given["key_id"]))
    assert key.public_pem() == row["public"]
    assert key.private_bytes()[-64:] not in row["private"]
    async with acme.pool.acquire() as connection, connection.transaction():
        assert (await sealed_secrets.seal_anew(connection, edge.services.settings))["license_keys"] == 1
    assert await acme.pool.fetchval("SELECT private FROM license_keys") != row["private"]
    again = await made(acme)
    assert again["signature"] == given["signature"]


async def test_a_licence_expires_and_then_is_to_be_removed(acme: Owner, redis_client: Redis) -> None:
    """inuse ─expires_at→ expired ─→ pending_remove, one step a turn; each is told, and the device with its answer."""
    device_id = await acme.device()
    given = await made(acme, device_id, "inuse", expires_at="2099-01-01T00:00:00Z")
    pending = await made(acme, device_id, "pending_update", expires_at="2099-01-01T00:00:00Z")
    endless = await made(acme, device_id, "inuse")
    clock = LicenseClock(acme.pool, redis_client, Metrics(CollectorRegistry()))
    end = datetime(2099, 1, 1, tzinfo=UTC)
    await acme.pool.execute("DELETE FROM event_outbox")
    steps = [
        (
            await clock.advance(end + timedelta(seconds=s)),
            (await acme.partner("GET", f"/licenses/{given['id']}"))["state"],
        )
        for s in (-1, 0, 0, 1, 86_400)
    ]
    assert steps == [(0, "inuse"), (1, "expired"), (0, "expired"), (1, "pending_remove"), (0, "pending_remove")]
    events = await acme.pool.fetch("SELECT data FROM event_outbox ORDER BY id")
    assert [row["data"]["licenseUpdated"]["state"] for row in events] == ["expired", "pending_remove"]
    for other, state in ((pending, "pending_update"), (endless, "inuse")):
        assert (await acme.partner("GET", f"/licenses/{other['id']}"))["state"] == state
    assert (await acme.row(device_id))["pending_licenses"] == 2


async def test_an_owner_sees_licences_with_the_devices_that_it_gets_and_has_no_more(acme: Owner, globex: Owner) -> None:
    """Claimed, handed to another owner, deleted: the list follows."""
    device_id = await acme.device(claimed=False)
    given = await made(acme, device_id)
    gone = await made(acme, device_id, "removed")
    counts = []
    for tenant in (acme, globex):
        await acme.pool.execute(
            """UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4, claimed_at = now()
                WHERE id = $1""",
            device_id,
            tenant.organization_id,
            tenant.project_id,
            tenant.space_id,
        )
        counts.append([len((await one.call("GET", "/licenses"))["items"]) for one in (acme, globex)])
    await globex.call("DELETE", f"/devices/{device_id}")
    counts.append([len((await one.call("GET", "/licenses"))["items"]) for one in (acme, globex)])
    assert counts == [[2, 0], [0, 2], [0, 0]]
    states = {one["id"]: one["state"] for one in (await acme.partner("GET", "/licenses"))["items"]}
    assert states == {given["id"]: "available", gone["id"]: "removed"}
