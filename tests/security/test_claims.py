"""A claim binds the device that the owner means: nobody slips another one in, and nobody takes it away."""

from typing import Any
from uuid import UUID

import pytest
from edges import RunningEdge
from owners import NOW, Owner, outbox
from projects import account_of

from gateway.stores import models
from gateway.stores.devices.claiming import UNKNOWN
from schemas import keys
from schemas.postgres import Pool

MAC, SN = "02:ab:cd:ef:00:01", "X-1"


async def register(tenant: Owner, *, mac: str = MAC, sn: str = SN, **members: Any) -> UUID:
    """A device of the tenant's model registers, as anyone can who has its hardware key."""
    key = await tenant.call("POST", f"/models/{tenant.model_id}/hardware_keys", {"name": "Line"})
    body = {"hardware_key": key["key"], "mac": mac, "sn": sn, "firmware_version": "1.0.0"} | members
    status, answer = await tenant.ask("POST", "/v1/devices", body, key="")
    assert status == 201, answer
    return UUID(answer["id"])


async def claim(tenant: Owner, **members: Any) -> Any:
    """Claim by the pair that is printed on the device."""
    body = {"space_id": str(tenant.space_id), "mac": MAC, "sn": SN} | members
    return await tenant.call("POST", "/devices/claim", body)


async def test_a_stranger_cannot_slip_in_a_device_of_its_own(acme: Owner, globex: Owner) -> None:
    """Whoever registers what is printed on another's device gets none of its config: its model is not to be seen."""
    await register(globex)
    assert await claim(acme) == (404, UNKNOWN)
    real = await register(acme)
    assert (await claim(acme))["id"] == str(real)


async def test_a_stranger_cannot_claim_by_what_is_printed(acme: Owner, globex: Owner) -> None:
    """A pair opens devices of one's own models, of partners' and of public ones, and no others."""
    await register(acme)
    assert await claim(globex) == (404, UNKNOWN)
    boss = await account_of(globex, "organization.admin")
    assert (await boss.ask("GET", f"/v2/claimInfo?identifier={MAC}/{SN}"))[0] == 404
    path = f"/v2/projects/{globex.project_id}/devices:claim?dryRun=false"
    _, answer = await boss.ask("POST", path, {"deviceIds": [f"{MAC}/{SN}"]})
    assert [error["code"] for error in answer["claimErrors"]["devices"]] == ["NOT_FOUND"]


async def test_only_the_owner_says_who_its_partners_are_and_only_the_operator_what_is_public(
    acme: Owner, globex: Owner, pool: Pool
) -> None:
    """A vendor cannot make its devices claimable by itself: not by its model, and not by naming customers."""
    device_id = await register(globex)
    await globex.trusts(acme)
    await globex.call("PATCH", f"/models/{globex.model_id}", {"public": True})
    assert await claim(acme) == (404, UNKNOWN)
    await models.publish(pool, globex.model_id, public=True)
    assert (await claim(acme, dry_run=True))["id"] == str(device_id)
    await models.publish(pool, globex.model_id, public=False)
    assert await claim(acme) == (404, UNKNOWN)
    await acme.trusts(globex)
    (partner,) = (await acme.call("GET", "/partners"))["items"]
    assert partner["id"] == str(globex.organization_id)
    assert (await claim(acme, dry_run=True))["id"] == str(device_id)
    await acme.call("DELETE", f"/partners/{partner['id']}")
    assert await claim(acme) == (404, UNKNOWN)
    assert await acme.call("POST", "/partners", {"short_code": "nobody"}) == (
        422,
        "Short code: there is no such vendor",
    )


async def test_a_pair_of_devices_of_several_models_is_refused_until_one_is_named(acme: Owner, globex: Owner) -> None:
    """None is chosen for the owner, neither the older nor its own; names, short codes and ids of models will do."""
    rogue, real = await register(globex), await register(acme)
    await acme.trusts(globex)
    status, text = await claim(acme)
    assert (status, text.split(",")[0]) == (422, "Model must be named")
    assert str(acme.model_id) in text
    assert str(globex.model_id) in text
    assert await outbox(acme.pool) == []
    code = await acme.pool.fetchval("SELECT short_code FROM organizations WHERE id = $1", acme.organization_id)
    for named in (
        {"vendor": "acme"},
        {"vendor": code.lower()},
        {"model": str(acme.model_id).upper()},
        {"vendor": "Acme", "model": "Sensor"},
    ):
        assert (await claim(acme, dry_run=True, **named))["id"] == str(real), named
    assert (await claim(acme, model=str(globex.model_id), dry_run=True))["id"] == str(rogue)
    assert await claim(acme, vendor="nobody") == (404, UNKNOWN)
    assert (await claim(acme, vendor="Acme"))["id"] == str(real)


async def test_a_model_that_is_named_like_another_must_be_named_by_its_id(acme: Owner, globex: Owner) -> None:
    """Names are the vendor's to choose, so a copied name does not pass for the original."""
    await register(globex)
    real = await register(acme)
    await acme.trusts(globex)
    await globex.call("PATCH", f"/models/{globex.model_id}", {"vendor": "Acme"})
    assert (await claim(acme, vendor="Acme", model="Sensor"))[0] == 422
    assert (await claim(acme, model=str(acme.model_id)))["id"] == str(real)


async def test_in_v2_too_a_model_is_named_where_several_fit(acme: Owner, globex: Owner) -> None:
    """AMBIGUOUS, and nothing claimed, until the call says which vendor or model is meant."""
    await register(globex)
    real = await register(acme)
    await acme.trusts(globex)
    boss, printed = await account_of(acme, "organization.admin"), f"{MAC}/{SN}"
    path = f"/v2/projects/{acme.project_id}/devices:claim?dryRun=false"
    status, answer = await boss.ask("GET", f"/v2/claimInfo?identifier={printed}")
    assert (status, answer["error"].split(",")[0]) == (400, "Model must be named")
    _, answer = await boss.ask("POST", path, {"deviceIds": [printed]})
    assert [error["code"] for error in answer["claimErrors"]["devices"]] == ["AMBIGUOUS"]
    assert (await acme.row(real))["claimed_at"] is None
    _, answer = await boss.ask("GET", f"/v2/claimInfo?identifier={printed}&vendor=Acme")
    assert answer["device"]["vendor"] == "Acme"
    _, answer = await boss.ask("POST", path, {"deviceIds": [printed], "model": str(acme.model_id)})
    assert [device["deviceId"] for device in answer["claimedDevices"]] == [str(real)]


async def test_what_would_be_claimed_is_shown_before_and_in_the_answer(acme: Owner) -> None:
    """Vendor, model, first and last seen, and what comes along: whoever is to give it a secret can see a wrong one."""
    device_id = await acme.device(claimed=False, mac=MAC, sn=SN, registered_at=NOW)
    await acme.device(claimed=False, parent_id=device_id, vouched_for=True)
    await acme.seen(device_id)
    shown = await claim(acme, dry_run=True)
    assert (shown["vendor"], shown["model"], shown["model_id"]) == ("Acme", "Sensor", str(acme.model_id))
    assert shown["first_seen_at"] == shown["last_seen_at"] == "2026-05-04T12:00:00Z"
    assert [(below["model"], below["devices"]) for below in shown["below"]] == [("Sensor", 1)]
    assert (await acme.row(device_id))["claimed_at"] is None
    assert await outbox(acme.pool) == []
    boss = await account_of(acme, "organization.admin")
    _, answer = await boss.ask("GET", f"/v2/claimInfo?identifier={MAC}/{SN}")
    assert (answer["device"]["firstSeenTime"], answer["device"]["lastSeenTime"]) == ("2026-05-04T12:00:00.000000Z",) * 2
    assert answer["device"]["claimedWithIt"] == 1
    claimed = await claim(acme)
    assert claimed["model"] == {"id": str(acme.model_id), "vendor": "Acme", "name": "Sensor"}
    assert claimed["registered_at"] == claimed["last_seen_at"] == "2026-05-04T12:00:00Z"


@pytest.mark.parametrize("way", ["register", "report"])
async def test_a_device_that_names_a_parent_is_not_claimed_along(edge: RunningEdge, acme: Owner, way: str) -> None:
    """Only what the parent itself registered comes along; a rogue below it is told nothing of the owner's space."""
    parent = await register(acme)
    if way == "register":
        rogue = await register(acme, sn="rogue", parent_id=str(parent))
    else:
        other = await register(acme, sn="other")
        access = edge.services.access_keys.issue
        body = {"model_id": str(acme.model_id), "firmware_version": "1.0.0", "sn": "rogue"}
        _, child = await acme.ask("POST", f"/v1/devices/{other}/children", body, key=access(str(other), 0))
        rogue, key = UUID(child["id"]), child["access_key"]
        status, _ = await acme.ask("PUT", f"/v1/devices/{rogue}", {"parent_id": str(parent)}, key=key)
        assert status == 200
    assert (await claim(acme))["id"] == str(parent)
    assert await outbox(acme.pool) == [("deviceClaimed", parent)]
    assert (await acme.row(rogue))["space_id"] is None
    shard = (await acme.row(rogue))["shard"]
    assert not await edge.services.redis.hexists(keys.reply(shard), str(rogue))
