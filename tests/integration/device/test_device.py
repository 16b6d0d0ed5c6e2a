"""What a device reads and says of itself, and how it ends."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from edges import RunningEdge
from fleets import Fleet, fleet_of
from flushing import store_all
from owners import Owner

from gateway.app import ENDPOINTS
from schemas import keys
from schemas.redis import Redis

VERSIONS = ("config_version", "info_version", "space_data_version")


async def test_config_is_read_and_set_under_versions_that_only_grow(fleet: Fleet, acme: Owner) -> None:
    """By the device and by its owner alike; the next answer tells of it."""
    unit = await fleet.unit(claimed=True, name="Pump")
    assert await unit.call("GET", "/config") == {
        "name": "Pump", "version": 0, "last_updated": None, "config": {}, "device_id": unit.id,
    }  # fmt: skip
    assert await unit.call("POST", "/config", {"interval": 5}) == {"success": True, "version": 1}
    assert await unit.call("POST", "/config", {"interval": 6, "version": 7}) == {"success": True, "version": 7}
    assert await unit.ask("POST", "/config", {"interval": 7, "version": 7}) == (
        422,
        {"error": "Error setting config with old version, latest is 7"},
    )
    await acme.call("PUT", f"/devices/{unit.id}/config", {"config": {"interval": 9}})
    assert (await unit.waits())["config_version"] == 8
    config = await unit.call("GET", "/config")
    assert (config["config"], config["version"]) == ({"interval": 9}, 8)


async def test_the_current_config_sent_back_is_an_acknowledgement(fleet: Fleet, acme: Owner) -> None:
    """Alone or as the whole answer of GET: no new version, no event, and the owner sees it applied."""
    unit = await fleet.unit(claimed=True, name="Pump")
    assert await unit.call("POST", "/config", await unit.call("GET", "/config")) == {"success": True, "version": 0}
    config = {"a": 1, "b": [True, {"c": 2.5, "version": 9}], "version": "x"}
    await acme.call("PUT", f"/devices/{unit.id}/config", {"config": config})
    whole = await unit.call("GET", "/config")
    assert (await acme.call("GET", f"/devices/{unit.id}"))["applied_config_version"] == 0
    for echo in (whole, whole | {"version": 1.0}, whole | {"config": {**config, "a": 1.0}}, whole | {"name": "other"}):
        assert await unit.call("POST", "/config", echo) == {"success": True, "version": 1}, echo
    assert (await acme.call("GET", f"/devices/{unit.id}"))["applied_config_version"] == 1
    old = (422, {"error": "Error setting config with old version, latest is 1"})
    for changed in (config | {"a": 2}, config | {"a": True}, config | {"b": []}, {"a": 1}, config | {"d": None}):
        assert await unit.ask("POST", "/config", whole | {"config": changed}) == old, changed
    assert (await unit.call("GET", "/config")) == whole
    assert await unit.call("POST", "/config", whole | {"config": {"a": 2}, "version": 2}) == {
        "success": True,
        "version": 2,
    }
    assert (await unit.call("GET", "/config"))["config"] == {"a": 2}
    assert await unit.call("POST", "/config", {"a": 2.0, "version": 2}) == {"success": True, "version": 2}
    # A config of its own that only looks a little like that answer is a config.
    assert await unit.call("POST", "/config", {"config": {"a": 1}, "name": "x"}) == {"success": True, "version": 3}
    assert (await unit.call("GET", "/config"))["config"] == {"config": {"a": 1}, "name": "x"}


async def test_what_is_new_is_told_and_nothing_else(fleet: Fleet) -> None:
    """Ten times an hour; an unknown member is refused; what is absent stays."""
    unit = await fleet.unit(claimed=True)
    before = await unit.call("GET")
    assert await unit.ask("PUT", "", {"colour": "red"}) == (400, {"error": "Colour is not known here"})
    after = await unit.call("PUT", "", {"firmware_version": "1.1.0", "details": {"a": [1]}, "name": "Pump"})
    assert after == before | {"firmware_version": "1.1.0", "details": {"a": [1]}, "name": "Pump"}
    assert (await unit.waits())["info_version"] == 2  # claimed, and named
    for body in ({"firmware_version": "x"}, {"config_version": -1}, {"parent_id": unit.id}, {"name": "a\x00"}):
        assert (await unit.ask("PUT", "", body))[0] == 422, body
    # What was refused for what it said does not count.
    statuses = [(await unit.ask("PUT", "", {"space_version": 1}))[0] for _ in range(10)]
    assert statuses == [200] * 9 + [429]
    assert (await unit.ask("GET"))[0] == 200


async def test_parents_make_no_circle(fleet: Fleet) -> None:
    """Neither one after the other nor both at once."""
    first, second = await fleet.unit(), await fleet.unit()
    answers = await asyncio.gather(
        first.ask("PUT", "", {"parent_id": second.id}), second.ask("PUT", "", {"parent_id": first.id})
    )
    assert sorted(status for status, _ in answers) == [200, 422]


async def test_a_deleted_device_is_unknown_everywhere(fleet: Fleet, acme: Owner) -> None:
    """401 on every call from then on, its children's too: forget the keys and register again."""
    unit = await fleet.unit(claimed=True)
    child = {"model_id": str(acme.model_id), "firmware_version": "1.0.0", "sn": "C1"}
    below = await unit.call("POST", "/children", child)
    await unit.waits()
    assert await unit.call("DELETE") == {"success": True}
    for method, path, body in (
        ("POST", "/telemetry", {"status": "online"}),
        ("GET", "", None),
        ("GET", "/command", None),
        ("POST", "/config", {}),
        ("DELETE", "", None),
    ):
        assert await unit.ask(method, path, body) == (401, {"error": "Unauthorized"})
    status, _ = await fleet.ask(
        "POST", f"/v1/devices/{below['id']}/telemetry", {"status": "online"}, below["access_key"]
    )
    assert status == 401


async def test_no_device_speaks_as_another(fleet: Fleet, globex: Owner) -> None:
    """Every call under its id, with no key, nonsense, and the key of a stranger: 401 before anything else."""
    unit, stranger = await fleet.unit(), await (await fleet_of(globex)).unit()
    paths = [(e.method, e.path) for e in ENDPOINTS if e.path.startswith("/v1/devices/{device_id}")]
    assert len(paths) >= 15
    for method, path in paths:
        url = path.replace("{device_id}", unit.id)
        for key in ("", "x", "0" * 32, "é" * 32, stranger.key, f"Bearer {stranger.key}"):
            headers = {"authorization": key.encode().decode("latin-1")} if key else {}
            async with globex.http.request(method, globex.url + url, headers=headers, data=b"{}") as answer:
                if path.endswith("telemetries"):
                    assert answer.status in (401, 422), (path, answer.status)
                elif path.endswith("/content"):
                    # Agents forget their keys on 401, of whatever URL: for a stranger there is no such file.
                    assert (answer.status, await answer.json()) == (404, {"error": "File not found"})
                else:
                    assert (answer.status, await answer.json()) == (401, {"error": "Unauthorized"}), path


async def test_every_answer_tells_what_changed_and_versions_only_grow(fleet: Fleet, acme: Owner) -> None:
    """Claim, move, rename, config and command, each in the very next answer."""
    unit = await fleet.unit()
    nothing = {
        "success": True, "config_version": 0, "command": False, "new_licenses": False, "info_version": 0,
        "space_data_version": 0, "latest_fw_version": None, "latest_fw_file_id": None,
    }  # fmt: skip
    assert await unit.waits() == nothing
    assert await unit.ask("GET", "/space") == (422, {"error": "Device not in space"})
    await unit.claim()
    seen = [await unit.waits()]
    assert seen[0] == nothing | {"space_data_version": 1, "info_version": 1}
    space = await acme.call(
        "POST", "/spaces/find_or_create", {"path": "Hall/Room 1", "project_id": str(acme.project_id)}
    )
    await acme.call("POST", f"/devices/{unit.id}/move", {"space_id": space["id"]})
    seen.append(await unit.waits())
    await acme.call("PATCH", f"/devices/{unit.id}", {"name": "Pump"})
    seen.append(await unit.waits())
    await acme.call("PUT", f"/devices/{unit.id}/config", {"config": {"a": 1}})
    seen.append(await unit.waits())
    await acme.call("POST", f"/devices/{unit.id}/commands", {"command": "reboot"})
    seen.append(await unit.waits())
    assert seen[-1]["command"] is True
    for earlier, later in pairwise(seen):
        assert all(earlier[name] <= later[name] for name in VERSIONS)
        assert earlier != later
    place = await unit.call("GET", "/space")
    assert (place["name"], place["device_id"], place["location"]) == ("Room 1", unit.id, None)
    assert (await unit.call("PUT", "/space/move", {"target": "unsorted"}))["name"] == "Unsorted"
    assert (await unit.waits())["space_data_version"] > seen[-1]["space_data_version"]
    assert (await unit.ask("PUT", "/space/move", {"target": "follow_parent"}))[0] == 422
    assert (await unit.ask("PUT", "/space/move", {"target": "mars"}))[0] == 422


async def test_a_device_reads_itself_and_its_place(fleet: Fleet, acme: Owner) -> None:
    """GET: `{id, partner, config, state, last_seen, name, firmware_version, claimed, details}`; GET space, with its
    time of day, units and point on Earth; `follow_parent` is where the parent is.
    """
    parent = await fleet.unit(claimed=True)
    unit = await fleet.unit(name="Pump", details={"a": 1})
    assert await unit.call("GET") == {
        "id": unit.id,
        "partner": {"sn": unit.sn, "mac": unit.mac, "vendor": "Acme", "model": "Sensor"},
        "config": {"version": 0, "last_updated": None},
        "state": {"status": None},
        "last_seen": None,
        "name": "Pump",
        "firmware_version": "1.0.0",
        "claimed": False,
        "details": {"a": 1},
    }
    await unit.claim()
    place = {"latitude": 35.7, "longitude": 139.7, "location_name": "Tokyo", "time_zone": "Asia/Tokyo"}
    place |= {
        "temperature_units": "fahrenheit",
        "maintenance": True,
        "name": "Roof",
        "project_id": str(acme.project_id),
    }
    roof = await acme.call("POST", "/spaces", place)
    await acme.call("POST", f"/devices/{parent.id}/move", {"space_id": roof["id"]})
    await unit.call("PUT", "", {"parent_id": parent.id})
    moved = await unit.call("PUT", "/space/move", {"target": "follow_parent"})
    seen = await unit.call("GET", "/space")
    for answer in (moved, seen):
        local = datetime.fromisoformat(answer.pop("local_time"))
        assert local.utcoffset() == timedelta(hours=9)
        assert abs(datetime.now(UTC) - local) < timedelta(minutes=1)
    assert moved == seen
    assert seen == {
        "location": {"coordinates": {"lat": 35.7, "lng": 139.7}, "utc_offset": 9 * 3600, "name": "Tokyo"},
        "temperature_units": "fahrenheit",
        "maintenance": True,
        "name": "Roof",
        "device_id": unit.id,
    }


async def test_a_device_tells_each_member_that_it_may(fleet: Fleet, acme: Owner) -> None:
    """PUT: `firmware_version, name, sub_model, details, space_version, config_version, parent_id, host_address`."""
    parent, unit = await fleet.unit(claimed=True), await fleet.unit(claimed=True)
    told = {"firmware_version": "1.2.0", "name": "Pump", "sub_model": "XL", "details": {"a": 1}, "space_version": 3}
    told |= {"config_version": 4, "parent_id": parent.id, "host_address": "10.0.0.7"}
    await unit.call("PUT", "", told)
    row = dict(await acme.row(UUID(unit.id)))
    row |= {"space_version": row["applied_space_version"], "config_version": row["applied_config_version"]}
    assert {name: str(row[name]) if name == "parent_id" else row[name] for name in told} == told
    await unit.call("PUT", "", {"parent_id": None, "sub_model": None, "host_address": None})
    row = dict(await acme.row(UUID(unit.id)))
    assert (row["parent_id"], row["sub_model"], row["host_address"], row["name"]) == (None, None, None, "Pump")


async def test_cloud_settings_are_kept_for_the_device(fleet: Fleet, acme: Owner) -> None:
    """Property by property; null removes one."""
    unit = await fleet.unit()
    for value in ({"deep": [1, "x"]}, None, 5):
        assert await unit.call("PUT", "/cloud_settings", {"property": "p", "value": value}) == {"success": True}
    assert await unit.call("PUT", "/cloud_settings", {"q": 1, "r": [2], "s": None}) == {"success": True}
    row = await acme.pool.fetchval("SELECT cloud_settings FROM devices WHERE sn = $1", unit.sn)
    assert row == {"p": 5, "q": 1, "r": [2]}
    for body in ({}, {"property": "p"}, {"property": "", "value": 1}, {"property": 7, "value": 1}, {"a\x00": 1}, [1]):
        assert (await unit.ask("PUT", "/cloud_settings", body))[0] == 422, body
    assert (await unit.ask("PUT", "/cloud_settings", {str(n): n for n in range(98)}))[0] == 422


async def test_any_call_shows_that_the_device_lives(fleet: Fleet, redis_client: Redis) -> None:
    """A note reaches the stream without anyone waiting for it."""
    unit = await fleet.unit()
    await unit.call("GET", "/command")
    async with asyncio.timeout(20):
        while not sum([await redis_client.xlen(keys.ingest(shard)) for shard in range(4)]):
            await asyncio.sleep(0.01)


async def test_every_call_counts_against_the_limit(fleet: Fleet, acme: Owner) -> None:
    """Ordinary calls and telemetry share one; over it 429 with Retry-After."""
    await acme.pool.execute("UPDATE device_models SET rate_limit = 6")
    unit = await fleet.unit()
    statuses = []
    for number in range(16):
        method, path, body = (("GET", "/command", None), ("POST", "/telemetry", {"status": "online"}))[number % 2]
        status, answer = await unit.ask(method, path, body)
        statuses.append(status)
    # A window may end in between and let six more pass.
    assert statuses.count(429) >= 4
    assert statuses[:6].count(429) == 0
    assert answer["error"] == "More than 6 calls in 30 seconds" or statuses[-1] != 429


HOSTILE: list[Any] = [
    b"", b"{", b"[" * 50_000, b"\xff", b'{"id":"\\ud800"}', b'{"id":"\\u0000","name":"\\u0000","property":"\\u0000"}',
    b'{"id":1e999}', b'{"id":' + b"9" * 5_000 + b"}", b"null", b"[]", b"7", b'"x"', b'{"version":9007199254740993}',
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b'{"id":1,"id":2}', b'{"details":{"a":' + b"[" * 100 + b"]" * 100 + b"}}",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_hostile_bodies_are_refused_politely(fleet: Fleet, number: int) -> None:
    """On every device call that reads one: a 2xx or a 4xx with a sentence, never a 5xx."""
    unit = await fleet.unit(claimed=True)
    for endpoint in ENDPOINTS:
        if endpoint.method in ("POST", "PUT") and endpoint.path.startswith("/v1/devices"):
            path = endpoint.path.replace("{device_id}", unit.id)
            status, answer = await fleet.ask(endpoint.method, path, HOSTILE[number], unit.key)
            assert status < 500, (endpoint, answer)
            assert status < 300 or "error" in answer or endpoint.partial_status == status


async def test_a_telemetry_key_that_is_called_status_hides_nothing(
    edge: RunningEdge, fleet: Fleet, acme: Owner, redis_client: Redis
) -> None:
    """The device sees both, and so do its parent, its owner and its vendor."""
    unit = await fleet.unit(claimed=True)
    await unit.call("POST", "/telemetry", {"status": "online", "telemetries": {"status": "heating", "n": 1}})
    await store_all(edge, redis_client)
    both = {"status": "online", "telemetries.status": "heating", "n": 1}
    assert (await unit.call("GET"))["state"] == both
    assert (await acme.call("GET", f"/devices/{unit.id}"))["state"] == both
    await unit.call("POST", "/telemetry", {"telemetries": {"status": None}})
    await store_all(edge, redis_client)
    assert (await unit.call("GET"))["state"] == {"status": "online", "n": 1}
