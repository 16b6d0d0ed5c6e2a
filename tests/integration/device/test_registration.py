"""How a device comes to be: alone, many at once, below another."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from edges import RunningEdge, open_shards, running_edge
from fleets import Fleet, fleet_of
from flushing import store_all
from owners import Owner, outbox, owner

from schemas.redis import Redis


async def test_a_device_gets_an_identity_that_works_at_once(fleet: Fleet) -> None:
    """Id, key and where to call; no broker; its MAC in one spelling whatever was sent."""
    body = fleet.registration(mac="02-AB.CD:ef0102", name="Pump", details={"line": 3}, sub_model="X")
    status, answer = await fleet.ask("POST", "/v1/devices", body)
    assert status == 201
    url = fleet.owner.url
    assert answer | {"id": "", "access_key": ""} == {
        "id": "", "access_key": "", "hub_url": url, "hub_url_static_cert": url, "mqtt_hub_url": None,
    }  # fmt: skip
    assert len(answer["access_key"]) == 32
    status, device = await fleet.ask("GET", f"/v1/devices/{answer['id']}", None, answer["access_key"])
    assert (status, device["partner"]) == (
        200,
        {"sn": body["sn"], "mac": "02:ab:cd:ef:01:02", "vendor": "Acme", "model": "Sensor"},
    )
    assert (device["name"], device["details"], device["claimed"]) == ("Pump", {"line": 3}, False)


@pytest.mark.parametrize(
    ("members", "wanted", "text"),
    [
        ({"hardware_key": "nonsense"}, 400, "Hardware key is invalid"),
        ({"hardware_key": "fgh_" + "0" * 32 + "_" + "0" * 64}, 400, "Hardware key is invalid"),
        ({"hardware_key": None}, 422, "Hardware key can't be blank"),
        ({"sn": None}, 422, "Sn can't be blank"),
        ({"sn": " "}, 422, "Sn can't be blank"),
        ({"sn": "a\x00b"}, 422, None),
        ({"sn": "x" * 256}, 422, None),
        ({"sn": 7}, 422, None),
        ({"firmware_version": None}, 422, "Firmware version can't be blank"),
        ({"firmware_version": ""}, 422, "Firmware version can't be blank"),
        ({"firmware_version": "1"}, 422, "Firmware version is not a semantic version such as 1.4.0"),
        ({"mac": None}, 422, "Mac can't be blank"),
        ({"mac": "zz:00:00:00:00:01"}, 422, "Mac is not a MAC address"),
        ({"name": {"a": 1}}, 422, None),
        ({"details": [1]}, 422, None),
        ({"parent_id": "nobody"}, 422, None),
        ({"parent_id": "01890000-0000-7000-8000-000000000000"}, 422, "Parent not found"),
    ],
    ids=str,
)
async def test_a_registration_that_does_not_fit_says_why(
    fleet: Fleet, members: dict[str, Any], wanted: int, text: str | None
) -> None:
    """And leaves no device."""
    status, answer = await fleet.ask("POST", "/v1/devices", fleet.registration(**members))
    assert status == wanted, answer
    assert answer["error"] == text or text is None
    assert await fleet.owner.pool.fetchval("SELECT count(*) FROM devices") == 0


async def test_a_serial_number_is_taken_once_until_its_device_is_deleted(fleet: Fleet) -> None:
    """Also by two that register in the same moment."""
    bodies = [fleet.registration(sn="U1") for _ in range(5)]
    answers = await asyncio.gather(*(fleet.ask("POST", "/v1/devices", body) for body in bodies))
    assert sorted(status for status, _ in answers) == [201, 422, 422, 422, 422]
    assert {answer["error"] for status, answer in answers if status == 422} == {"Sn has already been taken"}
    body, first = next((body, answer) for body, (status, answer) in zip(bodies, answers, strict=True) if status == 201)
    assert await fleet.ask("DELETE", f"/v1/devices/{first['id']}", None, first["access_key"]) == (
        200,
        {"success": True},
    )
    status, again = await fleet.ask("POST", "/v1/devices", body)
    assert (status, again["id"] != first["id"]) == (201, True)


async def test_a_model_may_ask_for_cloud_ids(fleet: Fleet, acme: Owner) -> None:
    """The vendor's short code and 16 to 36 letters and digits, unique everywhere; MAC is not needed."""
    await acme.pool.execute("UPDATE organizations SET short_code = 'AC' WHERE id = $1", acme.organization_id)
    await acme.pool.execute("UPDATE device_models SET authentication = 'cloud_id'")
    good = "AC" + "a1" * 8
    for cloud_id, text in (
        (None, "Cloud id can't be blank"),
        ("XY" + "a1" * 8, "Cloud id must be the vendor's short code AC and 16 to 36 ASCII letters and digits"),
        ("AC" + "a" * 15, "Cloud id must be the vendor's short code AC and 16 to 36 ASCII letters and digits"),
        ("AC" + "é" * 16, "Cloud id must be the vendor's short code AC and 16 to 36 ASCII letters and digits"),
    ):
        body = fleet.registration(mac=None, cloud_id=cloud_id)
        assert await fleet.ask("POST", "/v1/devices", body) == (422, {"error": text})
    await fleet.unit(mac=None, cloud_id=good)
    body = fleet.registration(mac=None, cloud_id=good)
    assert await fleet.ask("POST", "/v1/devices", body) == (422, {"error": "Cloud id has already been taken"})


async def test_a_revoked_hardware_key_registers_nothing(fleet: Fleet) -> None:
    """Its devices go on."""
    unit = await fleet.unit()
    await fleet.owner.pool.execute("UPDATE hardware_keys SET revoked_at = now()")
    status, answer = await fleet.ask("POST", "/v1/devices", fleet.registration())
    assert (status, answer) == (400, {"error": "Hardware key is invalid"})
    await unit.waits()


async def test_many_devices_at_once_each_get_their_own_answer(fleet: Fleet) -> None:
    """In order: 201 when all are fine, else 422; more than 25 are refused whole."""
    good, bad = fleet.registration(), fleet.registration(sn=None)
    status, answer = await fleet.ask("POST", "/v1/devices/bulk_create", [good, fleet.registration()])
    assert (status, [set(item) >= {"id", "access_key"} for item in answer]) == (201, [True, True])
    again = await fleet.ask("POST", "/v1/devices/bulk_create", [good])
    assert again == (201, answer[:1])
    good["mac"] = "02:00:00:00:00:99"
    status, answer = await fleet.ask("POST", "/v1/devices/bulk_create", [bad, fleet.registration(), good, 7])
    assert status == 422
    assert [item.get("error", "fine") for item in answer][:3] == [
        "Sn can't be blank",
        "fine",
        "Sn has already been taken",
    ]
    assert "error" in answer[3]
    status, answer = await fleet.ask("POST", "/v1/devices/bulk_create", [fleet.registration() for _ in range(26)])
    assert (status, answer) == (422, {"error": "At most 25 devices are registered at once"})


async def test_children_belong_to_their_parent_and_are_claimed_with_it(fleet: Fleet, acme: Owner) -> None:
    """Into the same space; those registered later are its owner's from the start, and the log is told."""
    parent = await fleet.unit()
    child = {"model_id": str(acme.model_id), "firmware_version": "1.0.0", "sn": "C1", "name": "Child"}
    first = await parent.call("POST", "/children", child)
    assert set(first) == {"id", "access_key"}
    await parent.claim()
    second = await parent.call("POST", "/children", child | {"sn": "C2", "mac": "020000000099"})
    listed = await parent.call("GET", "/children")
    assert [(item["id"], item["sn"], item["claimed"]) for item in listed] == [
        (first["id"], "C1", True),
        (second["id"], "C2", True),
    ]
    assert set(listed[0]) == {
        "id", "sn", "mac", "state", "last_seen", "name", "firmware_version", "vendor", "model", "claimed", "details",
    }  # fmt: skip
    spaces = await acme.pool.fetch("SELECT DISTINCT space_id FROM devices")
    assert [row["space_id"] for row in spaces] == [acme.space_id]
    told = [kind for kind, device in await outbox(acme.pool) if str(device) == second["id"]]
    assert told == ["deviceRegistered"]
    for members, status, text in (
        ({"model_id": "nothing"}, 404, "Model not found"),
        ({"model_id": parent.id}, 404, "Model not found"),
        ({"sn": "C1"}, 422, "Sn has already been taken"),
        ({"firmware_version": "one"}, 422, "Firmware version is not a semantic version such as 1.4.0"),
    ):
        assert await parent.ask("POST", "/children", child | members) == (status, {"error": text})


async def test_a_parent_reports_for_its_children_and_nobody_elses(fleet: Fleet, acme: Owner) -> None:
    """Up to 100 at once; a child of another is unknown; command is never set for a child's."""
    parent, other = await fleet.unit(claimed=True), await fleet.unit()
    child = {"model_id": str(acme.model_id), "firmware_version": "1.0.0", "sn": "C1"}
    mine = (await parent.call("POST", "/children", child))["id"]
    foreign = (await other.call("POST", "/children", child | {"sn": "C2"}))["id"]
    await acme.call("POST", f"/devices/{mine}/commands", {"command": "reboot"})
    status, answer = await parent.ask("POST", "/children/telemetries", {mine: {"telemetries": {"a": 1}}})
    assert (status, answer[mine]["command"]) == (201, True)
    assert (await parent.waits())["command"] is False
    status, answer = await parent.ask(
        "POST", "/children/telemetries", {mine: {"status": "online"}, foreign: {"status": "online"}}
    )
    assert (status, answer[mine]["success"], answer[foreign]) == (422, True, {"error": "Device not found"})
    status, answer = await parent.ask("POST", "/children/telemetries", {str(n): {} for n in range(101)})
    assert status == 422


async def test_a_registration_whose_answer_was_lost_is_repeated(fleet: Fleet) -> None:
    """The same id and key, however often and by how many calls at once, and one device."""
    body = fleet.registration(details={"line": 3})
    answers = await asyncio.gather(*(fleet.ask("POST", "/v1/devices", body) for _ in range(4)))
    answers.append(await fleet.ask("POST", "/v1/devices", body | {"mac": body["mac"].replace(":", "-").upper()}))
    assert answers == [(201, answers[0][1])] * 5
    assert await fleet.owner.pool.fetchval("SELECT count(*) FROM devices") == 1
    _, answer = answers[0]
    assert (await fleet.ask("GET", f"/v1/devices/{answer['id']}", None, answer["access_key"]))[0] == 200


@pytest.mark.parametrize("change", ["heard", "claimed", "mac", "hardware_key", "parent"])
async def test_a_registration_is_repeated_only_by_who_made_it(
    edge: RunningEdge, fleet: Fleet, redis_client: Redis, change: str
) -> None:
    """Not once the device was heard of or claimed, nor with another proof: then its serial number is taken."""
    body = fleet.registration()
    unit = await fleet.unit(**body)
    if change == "heard":
        await unit.call("GET")
        await store_all(edge, redis_client)
    elif change == "claimed":
        await unit.claim()
    elif change == "mac":
        body["mac"] = "02:00:00:00:00:99"
    elif change == "hardware_key":
        body["hardware_key"] = (await fleet_of(fleet.owner)).hardware_key
    else:
        body["parent_id"] = (await fleet.unit()).id
    assert await fleet.ask("POST", "/v1/devices", body) == (422, {"error": "Sn has already been taken"})
    noted = await fleet.owner.pool.fetchval("SELECT asked_back_at FROM devices WHERE id = $1", unit.id)
    assert (noted is None) == (change == "mac")


@pytest.mark.parametrize("path", ["", "/bulk_create"])
async def test_an_owner_sees_that_a_unit_asked_to_come_back(fleet: Fleet, acme: Owner, path: str) -> None:
    """When, from where, with which firmware: after a factory reset it has no key, and never gets one by itself."""
    body = fleet.registration()
    unit = await fleet.unit(**body)
    await unit.claim()
    assert "asked_to_come_back" not in await acme.call("GET", f"/devices/{unit.id}")
    body["firmware_version"] = "v2.0.0"
    await fleet.ask("POST", f"/v1/devices{path}", [body] if path else body)
    asked = (await acme.call("GET", f"/devices/{unit.id}"))["asked_to_come_back"]
    assert asked | {"at": ""} == {"at": "", "address": "127.0.0.1", "firmware_version": "v2.0.0"}
    assert (await unit.ask("GET"))[0] == 200


@pytest.mark.parametrize(
    "proof", [{"sn": "C1"}, {"mac": "02:00:00:00:00:99"}, {"sn": "C1", "mac": "02:00:00:00:00:99"}]
)
async def test_the_registration_of_a_child_is_repeated_until_it_is_heard_of(
    edge: RunningEdge, fleet: Fleet, acme: Owner, redis_client: Redis, proof: dict[str, str]
) -> None:
    """By its parent; another parent's child is another device."""
    parent, other = await fleet.unit(), await fleet.unit()
    body = {"model_id": str(acme.model_id), "firmware_version": "1.0.0"} | proof
    child = await parent.call("POST", "/children", body)
    assert await parent.call("POST", "/children", body) == child
    status, answer = await other.ask("POST", "/children", body)
    assert (status, answer.get("error")) == ((422, "Sn has already been taken") if "sn" in proof else (201, None))
    assert (await fleet.ask("GET", f"/v1/devices/{child['id']}", None, child["access_key"]))[0] == 200
    await store_all(edge, redis_client)
    status, answer = await parent.ask("POST", "/children", body)
    assert (status, answer.get("id")) != (201, child["id"])


async def test_a_firmware_version_is_normalised_and_kept_as_it_was_told(fleet: Fleet, acme: Owner) -> None:
    """When a device registers, when it reports, and for children."""
    unit = await fleet.unit(claimed=True, firmware_version="v1.02.3")
    assert (await unit.call("GET"))["firmware_version"] == "1.2.3"
    assert (await acme.call("GET", f"/devices/{unit.id}"))["firmware"] == {"version": "1.2.3", "told": "v1.02.3"}
    assert (await unit.call("PUT", "", {"firmware_version": "1.2.4.0"}))["firmware_version"] == "1.2.4"
    assert (await acme.call("GET", f"/devices/{unit.id}"))["firmware"] == {"version": "1.2.4", "told": "1.2.4.0"}
    await unit.call("PUT", "", {"name": "Pump"})
    assert (await acme.call("GET", f"/devices/{unit.id}"))["firmware"]["told"] == "1.2.4.0"
    await unit.call("PUT", "", {"firmware_version": "1.3.0"})
    assert (await acme.call("GET", f"/devices/{unit.id}"))["firmware"] == {"version": "1.3.0"}
    await unit.call("POST", "/children", {"model_id": str(acme.model_id), "firmware_version": "V2.0"})
    assert (await unit.call("GET", "/children"))[0]["firmware_version"] == "2.0.0"


NO_ADDRESSES = [
    "x:0", "x:65536", "x:", "x:-1", "a..b", ".", "..", "x..", "a" * 64, ".".join(["a" * 60] * 5), "0", "0:8080",
    "127.1", "0x7f000001", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "[::1", "[]", "[::::]", "[1.2.3.4]", "[::]:80",
    "[fe80::1%25eth0]", "[0:0:0:0:0:0:0:0]", "[::ffff:0.0.0.0]", "[ff02::1]", "224.0.0.1", "::1", "2001:db8::1",
    "b%C3%BCcher.example", "x,y", "a_.-b.", "-a.example", "x y:80", "x@y:80", "http://x", "x#y", "x?y", "$HOST",
]  # fmt: skip


@pytest.mark.parametrize("bound", ["0.0.0.0:8080", "[::]:8080"])
async def test_an_edge_that_is_bound_to_every_address_names_the_one_it_was_called_by(
    dsn: str, redis_url: str, redis_client: Redis, bound: str
) -> None:
    """And refuses before it registers anything where a device could not keep that one; a public URL comes first."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, bind=bound) as edge:
        fleet = await fleet_of(await owner(edge, "Acme"))
        for host in (
            f"127.0.0.1:{edge.port}",
            "gateway.example",
            "gateway.example:8443",
            "[2001:db8::1]:80",
            "10.0.0.7",
            "my_gateway:8080",
            "xn--bcher-kva.example",
        ):
            status, answer = await _register(edge, fleet, host, **{"x-forwarded-host": "elsewhere.example"})
            assert (status, answer["hub_url"]) == (201, f"http://{host}")
        for host, kept in (("gateway.example.", "gateway.example"), ("gateway.example.:80", "gateway.example:80")):
            assert (await _register(edge, fleet, host))[1]["hub_url"] == f"http://{kept}"
        known = await fleet.owner.pool.fetchval("SELECT count(*) FROM devices")
        for host in (
            "0.0.0.0:8080",
            "[::]:8080",
            "[::]",
            "",
            "a b",
            "x/y",
            "user@x",
            "x:y",
            "-",
            "x:123456",
            *NO_ADDRESSES,
        ):
            status, answer = await _register(edge, fleet, host)
            assert status == 400
            assert answer["error"].endswith("the gateway needs FLEETGATE_PUBLIC_URL")
        assert await fleet.owner.pool.fetchval("SELECT count(*) FROM devices") == known
    async with running_edge(dsn, redis_url, bind=bound, public_url="https://gateway.example") as edge:
        status, answer = await _register(edge, fleet, "0.0.0.0:8080")
        assert (status, answer["hub_url"]) == (201, "https://gateway.example")


async def _register(edge: RunningEdge, fleet: Fleet, host: str, **more: str) -> tuple[int, Any]:
    url, headers = f"{edge.url}/v1/devices", {"host": host, **more}
    async with edge.http.post(url, json=fleet.registration(), headers=headers) as answer:
        return answer.status, await answer.json()


DIRT = [
    "{}\n",
    "{}\r\n",
    " {}",
    "\t{} ",
    "\ufeff{}",
    "{}\u00a0",
    "{}\u200b\n",
    "\x02{}\x03",
    "\x1d{}\x04",
    "\u2060{}\u200d\u2028",
]


@pytest.mark.parametrize("dirt", DIRT)
async def test_a_serial_number_is_trimmed_at_every_door(
    edge: RunningEdge, fleet: Fleet, acme: Owner, dirt: str
) -> None:
    """However a scanner or a person writes it, a unit is registered once, and claimed by what is printed on it."""
    unit = await fleet.unit(sn=dirt.format("Ü 1"))
    taken = (422, {"error": "Sn has already been taken"})
    for sn in ("Ü 1", "U\u0308 1", *(dirt.format("Ü 1") for dirt in DIRT)):
        assert await fleet.ask("POST", "/v1/devices", fleet.registration(sn=sn)) == taken
    child = {"model_id": str(acme.model_id), "firmware_version": "1.0.0", "sn": dirt.format("C1")}
    await unit.call("POST", "/children", child)
    assert (await unit.call("GET", "/children"))[0]["sn"] == "C1"
    claim = {"space_id": str(acme.space_id), "mac": f" {unit.mac}\n", "sn": dirt.format("Ü 1")}
    assert (await acme.call("POST", "/devices/claim", claim))["sn"] == "Ü 1"
    blank = fleet.registration(sn=dirt.format(""))
    assert await fleet.ask("POST", "/v1/devices", blank) == (422, {"error": "Sn can't be blank"})


async def test_stored_serial_numbers_are_trimmed_unless_that_would_make_two_units_one(
    acme: Owner, repository: Path
) -> None:
    """By the migration: the trimmed one that exists keeps its name, of two equal ones the first gets it."""
    sns = ["A\n", "A", " B", "B ", "C\r\n", " ", "D", "\x02E\x03", "\u2060F\u3000"]
    devices = [await acme.device(sn=sn) for sn in sns]
    for name, *last in (
        ("0006_serial_numbers", "\x02E\x03", "\u2060F\u3000"),
        ("0036_serial_numbers_unseen", "E", "F"),
    ):
        await acme.pool.execute((repository / "schemas" / "migrations" / f"{name}.sql").read_text())
        after = [(await acme.row(device))["sn"] for device in devices]
        assert after == ["A\n", "A", "B", "B ", "C", " ", "D", *last]
