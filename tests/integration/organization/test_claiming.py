"""Claiming: proof, answers that give nothing away, and what comes with a claimed device."""

import asyncio
from typing import Any

from owners import Owner, outbox

from gateway.stores.devices.claiming import ALREADY, UNKNOWN
from gateway.stores.tenants.spaces import SPACE_UNKNOWN
from schemas import ids, keys


async def proof(tenant: Owner, device_id: Any) -> dict[str, str]:
    row = await tenant.row(device_id)
    return {"mac": row["mac"], "sn": row["sn"]}


async def test_a_device_is_claimed_by_mac_and_serial_however_the_mac_is_spelt(edge: Any, acme: Owner) -> None:
    """The right pair makes the tenant the owner, names the device, and tells it of its space."""
    device_id = await acme.device(claimed=False, mac="02:ab:cd:00:00:01", sn="X1")
    body = {"space_id": str(acme.space_id), "mac": "02-AB-CD-00-00-01", "sn": "X1", "name": "Door"}
    device = await acme.call("POST", "/devices/claim", body)
    assert (device["id"], device["name"], device["status"]) == (str(device_id), "Door", "offline")
    assert device["space"] == {"id": str(acme.space_id), "full_path": "Hall"}
    assert (device["info_version"], device["space_data_version"]) == (1, 1)
    assert await outbox(acme.pool) == [("deviceClaimed", device_id)]
    shard = (await acme.row(device_id))["shard"]
    assert b'"space_data_version":1' in await edge.services.redis.hget(keys.reply(shard), str(device_id))


async def test_a_device_is_claimed_by_cloud_id(acme: Owner) -> None:
    """A model that authenticates by Cloud ID is claimed by it, and keeps its name when none is given."""
    model = await acme.call("POST", "/models", {"vendor": "V", "name": "Cloudy", "authentication": "cloud_id"})
    await acme.device(claimed=False, model_id=model["id"], sn=None, mac=None, cloud_id="AC0123456789abcdef", name="N")
    device = await acme.call(
        "POST", "/devices/claim", {"space_id": str(acme.space_id), "cloud_id": "AC0123456789abcdef"}
    )
    assert (device["name"], device["cloud_id"]) == ("N", "AC0123456789abcdef")


async def test_what_is_blank_in_a_claim_is_absent(acme: Owner) -> None:
    """As forms and scripts send it: an empty Cloud ID beside the pair, and the other way round."""
    for blank in ("", " ", None):
        device_id = await acme.device(claimed=False)
        row = await acme.row(device_id)
        proof = {"space_id": str(acme.space_id), "mac": row["mac"], "sn": row["sn"]}
        claimed = await acme.call(
            "POST", "/devices/claim", proof | {"cloud_id": blank, "vendor": blank, "model": blank}
        )
        assert claimed["id"] == str(device_id)
    await acme.device(claimed=False, cloud_id="AC0123456789abcdef", sn=None, mac=None)
    await acme.pool.execute("UPDATE device_models SET authentication = 'cloud_id'")
    proof = {"space_id": str(acme.space_id), "cloud_id": "AC0123456789abcdef", "mac": "", "sn": ""}
    assert (await acme.call("POST", "/devices/claim", proof))["cloud_id"] == "AC0123456789abcdef"


async def test_wrong_unknown_and_foreign_proofs_get_the_same_answer(acme: Owner, globex: Owner) -> None:
    """Nobody learns from a refused claim which devices exist or are owned."""
    await acme.trusts(globex)
    free = await proof(globex, await globex.device(claimed=False))
    owned = await proof(globex, await globex.device())
    for wrong in ({"mac": free["mac"], "sn": "?"}, {"mac": "02:99:99:99:99:99", "sn": free["sn"]}, owned):
        answer = await acme.call("POST", "/devices/claim", {"space_id": str(acme.space_id)} | wrong)
        assert answer == (404, UNKNOWN)
    answer = await acme.call("POST", "/devices/claim", {"space_id": str(acme.space_id), "cloud_id": free["sn"]})
    assert answer == (404, UNKNOWN)


async def test_the_owner_is_told_that_the_device_is_its_own_already(acme: Owner) -> None:
    """Only the same tenant hears that a device was claimed."""
    own = await proof(acme, await acme.device())
    answer = await acme.call("POST", "/devices/claim", {"space_id": str(acme.space_id)} | own)
    assert answer == (422, ALREADY)


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({}, "Space id can't be blank"),
    ({"space_id": "x"}, "Space id: Invalid UUID"),
    ({"space_id": 0}, "Give either cloud id, or mac and sn"),
    ({"space_id": 0, "cloud_id": "C", "sn": "S"}, "Give either cloud id, or mac and sn"),
    ({"space_id": 0, "sn": "S"}, "Mac can't be blank"),
    ({"space_id": 0, "mac": "02:00:00:00:00:01"}, "Sn can't be blank"),
    ({"space_id": 0, "mac": "nonsense", "sn": "S"}, "Mac is not a MAC address"),
    ({"space_id": 0, "mac": "02:00:00:00:00:01", "sn": "a\0b"}, "Sn: a text must not hold U+0000"),
    ({"space_id": 0, "cloud_id": "x" * 256}, "Cloud id: Expected str of length <= 255"),
    ({"space_id": 0, "cloud_id": "x", "name": 7}, "Name: Expected str | null, got int"),
]


async def test_a_malformed_claim_names_the_field_at_fault(acme: Owner) -> None:
    """422 with a sentence that begins with the member to change."""
    for body, text in MALFORMED:
        given = body | {"space_id": str(acme.space_id)} if body.get("space_id") == 0 else body
        status, error = await acme.call("POST", "/devices/claim", given)
        assert (status, error[: len(text)]) == (422, text), body


async def test_another_tenants_space_is_as_unknown_as_none(acme: Owner, globex: Owner) -> None:
    """A claim goes into a space of one's own only, and says nothing about others'."""
    free = await proof(acme, await acme.device(claimed=False))
    for space_id in (globex.space_id, ids.new_id()):
        answer = await acme.call("POST", "/devices/claim", {"space_id": str(space_id)} | free)
        assert answer == (422, SPACE_UNKNOWN)


async def test_children_are_claimed_with_their_parent_into_the_same_space(acme: Owner) -> None:
    """A whole tree of devices is claimed at once; each is told and each has its event."""
    parent = await acme.device(claimed=False)
    child = await acme.device(claimed=False, parent_id=parent, vouched_for=True, name="Child")
    grandchild = await acme.device(claimed=False, parent_id=child, vouched_for=True)
    gone = await acme.device(claimed=False, parent_id=parent, vouched_for=True)
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", gone)
    await acme.call(
        "POST", "/devices/claim", {"space_id": str(acme.space_id), "name": "Parent"} | await proof(acme, parent)
    )
    for device_id in (child, grandchild):
        row = await acme.row(device_id)
        assert (row["space_id"], row["space_data_version"], row["info_version"]) == (acme.space_id, 1, 1)
    assert (await acme.row(child))["name"] == "Child"
    assert (await acme.row(gone))["space_id"] is None
    assert sorted(await outbox(acme.pool)) == sorted(("deviceClaimed", one) for one in (parent, child, grandchild))


async def test_a_child_cannot_be_claimed_away_from_its_parent(acme: Owner, globex: Owner) -> None:
    """A device below another is claimed with it; by itself only by whoever owns the one above."""
    parent = await acme.device(claimed=False)
    child = await proof(acme, await acme.device(claimed=False, parent_id=parent))
    assert await acme.call("POST", "/devices/claim", {"space_id": str(acme.space_id)} | child) == (404, UNKNOWN)
    later = await proof(acme, await acme.device(claimed=False, parent_id=await acme.device()))
    assert await globex.call("POST", "/devices/claim", {"space_id": str(globex.space_id)} | later) == (404, UNKNOWN)
    assert (await acme.call("POST", "/devices/claim", {"space_id": str(acme.space_id)} | later))["sn"] == later["sn"]


async def test_of_two_tenants_that_claim_at_once_exactly_one_wins(acme: Owner, globex: Owner) -> None:
    """A race has one owner at its end, and one event."""
    await globex.trusts(acme)
    device_id = await acme.device(claimed=False)
    given = await proof(acme, device_id)
    answers = await asyncio.gather(
        *(
            tenant.call("POST", "/devices/claim", {"space_id": str(tenant.space_id)} | given)
            for tenant in (acme, globex, acme, globex)
        )
    )
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert {answer for answer in answers if isinstance(answer, tuple)} <= {(404, UNKNOWN), (422, ALREADY)}
    assert await outbox(acme.pool) == [("deviceClaimed", device_id)]
