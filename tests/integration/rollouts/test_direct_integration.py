"""Direct Device Integration, as updaters speak it: a public client of it, unmodified, and what it does not do."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from campaigns import Campaign
from edges import RunningEdge, open_shards, running_edge
from owners import Owner, owner
from rauc_hawkbit.ddi.client import APIError, ConfigStatusExecution, ConfigStatusResult, DDIClient
from rauc_hawkbit.ddi.deployment_base import DeploymentStatusExecution, DeploymentStatusResult

from gateway.device.direct_integration import FAILED_EVENT, Execution
from schemas.redis import Redis

IMAGE = bytes(range(256)) * 2_000
CLOSED, PROCEEDING = DeploymentStatusExecution.closed, DeploymentStatusExecution.proceeding
SUCCESS, FAILURE, NONE = DeploymentStatusResult.success, DeploymentStatusResult.failure, DeploymentStatusResult.none


def updater(edge: RunningEdge, device_id: UUID) -> DDIClient:
    """The public client, as its settings file would make it."""
    host = edge.url.removeprefix("http://")
    return DDIClient(edge.http, host, False, edge.services.access_key(device_id, 0), "default", str(device_id))


def action_of(base: Any) -> tuple[str, str]:
    """Number and resource of the action, as the client's own loop takes them from the address."""
    number, _, resource = base["_links"]["deploymentBase"]["href"].rpartition("/")[2].partition("?c=")
    return number, resource


async def released(owner: Owner, version: str = "2.0.0") -> UUID:
    """Firmware of the owner for its devices, with bytes."""
    body = {"model_id": str(owner.model_id), "name": "os image.raucb", "file_type": "firmware", "version": version}
    made = await owner.call("POST", "/files", body)
    content = f"{owner.url}/core/v1/organization/files/{made['id']}/content"
    async with owner.http.put(content, data=IMAGE, headers={"authorization": owner.key}) as answer:
        assert answer.status == 200
    await owner.call("POST", f"/files/{made['id']}/release")
    return UUID(made["id"])


async def rolled_out(owner: Owner, redis: Redis, **body: Any) -> Campaign:
    """A rollout of that firmware, whose first wave is offered."""
    file_id = await released(owner)
    made = await owner.call("POST", "/rollouts", {"name": "Spring", "file_id": str(file_id)} | body)
    spring = Campaign(owner, redis, made["id"], file_id)
    await spring.act("start")
    await spring.advance(seconds=1)
    return spring


async def test_a_public_updater_installs_what_a_rollout_offers(
    edge: RunningEdge, acme: Owner, redis_client: Redis, tmp_path: Path
) -> None:
    """It polls, says what it is, downloads and compares, tells how it goes, and is done: the rollout counts it."""
    device_id = await acme.device()
    ddi = updater(edge, device_id)
    assert (await ddi())["_links"].keys() == {"configData"}
    await ddi.configData(ConfigStatusExecution.closed, ConfigStatusResult.success, hw_revision="B2")
    assert (await acme.row(device_id))["details"] == {"hw_revision": "B2"}
    spring = await rolled_out(acme, redis_client)
    base = await ddi()
    assert (base["config"]["polling"]["sleep"], base["_links"].keys()) == ("00:05:00", {"deploymentBase"})
    number, resource = action_of(base)
    assert 0 < int(number) < 2**31
    [chunk] = (await ddi.deploymentBase[number](resource))["deployment"]["chunks"]
    [artifact] = chunk["artifacts"]
    assert (chunk["part"], chunk["version"], artifact["size"]) == ("bApp", "2.0.0", len(IMAGE))
    md5 = await ddi.get_binary(artifact["_links"]["download-http"]["href"], str(tmp_path / "image"))
    assert md5 == artifact["hashes"]["md5"]
    assert artifact["hashes"]["sha1"] == hashlib.sha1(IMAGE).hexdigest()
    assert artifact["hashes"]["sha256"] == hashlib.sha256((tmp_path / "image").read_bytes()).hexdigest()
    await ddi.deploymentBase[number].feedback(PROCEEDING, NONE, ["Installing"], percentage=40)
    assert (await acme.row(device_id))["firmware_version"] == "1.0.0"
    await ddi.deploymentBase[number].feedback(CLOSED, SUCCESS, ["Done"])
    assert (await acme.row(device_id))["firmware_version"] == "2.0.0"
    await spring.advance(seconds=1)
    assert (await spring.states(), await spring.status()) == ({device_id: "succeeded"}, "finished")
    assert "deploymentBase" not in (await ddi())["_links"]


async def test_an_updater_of_small_devices_finds_what_it_looks_for(
    edge: RunningEdge, acme: Owner, redis_client: Redis
) -> None:
    """As the one in Zephyr asks and reads: fixed sizes, one chunk of its kind, and a path that it cuts from a URL."""
    device_id = await acme.device()
    spring = await rolled_out(acme, redis_client)
    key, base = f"TargetToken {edge.services.access_key(device_id, 0)}", f"/default/controller/v1/{device_id}"
    closed = {"execution": "closed", "result": {"finished": "success"}}
    told = {"mode": "merge", "data": {"VIN": "0123", "hwRevision": "3"}, "id": "", "time": "", "status": closed}
    assert (await acme.ask("PUT", f"{base}/configData", told, key))[0] == 200
    _, polled = await acme.ask("GET", base, key=key)
    assert len(polled["config"]["polling"]["sleep"]) == 8
    resource = polled["_links"]["deploymentBase"]["href"].partition(f"{base}/")[2]
    assert resource.startswith("deploymentBase/")
    assert len(resource) < 50
    _, action = await acme.ask("GET", f"{base}/{resource}", key=key)
    [chunk] = action["deployment"]["chunks"]
    [artifact] = chunk["artifacts"]
    assert (chunk["part"], artifact["hashes"]["sha256"]) == ("bApp", hashlib.sha256(IMAGE).hexdigest())
    _, found, rest = artifact["_links"]["download-http"]["href"].partition("/DEFAULT/controller/v1")
    assert len(found + rest) < 200
    async with acme.http.get(acme.url + found + rest, headers={"authorization": key}) as answer:
        assert (answer.status, await answer.read()) == (200, IMAGE)
    async with asyncio.timeout(20):  # it is noted behind the last byte
        while await spring.states() != {device_id: "installing"}:
            await spring.advance(seconds=1)
    feedback = f"{base}/deploymentBase/{action['id']}/feedback"
    assert (await acme.ask("POST", feedback, {"id": action["id"], "time": "", "status": closed}, key))[0] == 200
    await spring.advance(seconds=1)
    assert await spring.states() == {device_id: "succeeded"}


async def test_over_tls_an_action_has_both_links(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """Some updaters know only `download-http`, some prefer `download`."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, public_url="https://gateway.example") as edge:
        acme = await owner(edge, "Acme")
        device_id = await acme.device()
        await rolled_out(acme, redis_client)
        key, base = f"TargetToken {edge.services.access_key(device_id, 0)}", f"/default/controller/v1/{device_id}"
        _, polled = await acme.ask("GET", base, key=key)
        url = polled["_links"]["deploymentBase"]["href"]
        assert url.startswith(f"https://gateway.example{base}/")
        _, action = await acme.ask("GET", url.removeprefix("https://gateway.example"), key=key)
        links = action["deployment"]["chunks"][0]["artifacts"][0]["_links"]
        assert links["download"] == links["download-http"]
        assert links["download"]["href"].startswith("https://gateway.example/DEFAULT/controller/v1/")


async def test_what_failed_is_counted_and_told_and_tried_as_another_action(
    edge: RunningEdge, acme: Owner, redis_client: Redis
) -> None:
    """Its reason is kept; the action before is over, and says so."""
    device_id = await acme.device()
    spring = await rolled_out(acme, redis_client, retries=1)
    ddi = updater(edge, device_id)
    number, resource = action_of(await ddi())
    await ddi.deploymentBase[number].feedback(CLOSED, FAILURE, ["signature", "is wrong"])
    await spring.advance(seconds=1)
    await spring.advance(seconds=1)
    again, _ = action_of(await ddi())
    assert again != number
    with pytest.raises(APIError, match="404"):
        await ddi.deploymentBase[number](resource)
    with pytest.raises(APIError, match="410"):
        await ddi.deploymentBase[number].feedback(CLOSED, SUCCESS)
    await ddi.deploymentBase[again].feedback(CLOSED, FAILURE)
    await spring.advance(seconds=1)
    [part] = (await acme.call("GET", f"{spring.path}/devices", state="failed"))["items"]
    assert (part["attempts"], part["reason"]) == (2, "the device told so")
    told = await acme.pool.fetch("SELECT data FROM event_outbox WHERE data->'deviceEvent'->>'name' = $1", FAILED_EVENT)
    assert [row["data"]["deviceEvent"].get("stringKey2") for row in told] == ["signature is wrong", None]


async def test_what_an_updater_cancels_has_failed_and_all_else_that_it_tells_ends_nothing(
    edge: RunningEdge, acme: Owner, redis_client: Redis
) -> None:
    """`closed` and `canceled` end an action; with whichever result the rest comes, it is news of one under way."""
    device_id = await acme.device()
    spring = await rolled_out(acme, redis_client, retries=0)
    ddi = updater(edge, device_id)
    number, _ = action_of(await ddi())
    path = f"/default/controller/v1/{device_id}/deploymentBase/{number}/feedback"
    key = f"TargetToken {edge.services.access_key(device_id, 0)}"
    for execution in sorted(set(get_args(Execution)) - {"closed", "canceled"}):
        for finished in ("none", "failure", "success"):
            body = {"id": number, "status": {"execution": execution, "result": {"finished": finished}}}
            assert (await acme.ask("POST", path, body, key))[0] == 200
    await spring.advance(seconds=1)
    assert (await spring.states(), action_of(await ddi())[0]) == ({device_id: "offered"}, number)
    assert (await acme.row(device_id))["firmware_version"] == "1.0.0"
    await ddi.deploymentBase[number].feedback(DeploymentStatusExecution.canceled, NONE, ["battery", "is low"])
    await spring.advance(seconds=1)
    [part] = (await acme.call("GET", f"{spring.path}/devices"))["items"]
    assert (part["state"], part["reason"], await spring.status()) == ("failed", "battery is low", "finished")
    assert "deploymentBase" not in (await ddi())["_links"]
    with pytest.raises(APIError, match="410"):
        await ddi.deploymentBase[number].feedback(CLOSED, SUCCESS)
    [told] = await acme.pool.fetch(
        "SELECT data FROM event_outbox WHERE data->'deviceEvent'->>'name' = $1", FAILED_EVENT
    )
    assert told["data"]["deviceEvent"]["stringKey2"] == "battery is low"


async def test_without_a_rollout_a_release_is_for_all_updaters(edge: RunningEdge, acme: Owner) -> None:
    """What is withdrawn is offered to nobody, and its action is over."""
    device_id = await acme.device()
    ddi = updater(edge, device_id)
    file_id = await released(acme)
    await acme.pool.execute("UPDATE devices SET latest_fw_file_id = $1, latest_fw_version = '2.0.0'", file_id)
    number, resource = action_of(await ddi())
    assert (await ddi.deploymentBase[number](resource))["id"] == number
    await acme.call("POST", f"/files/{file_id}/withdraw")
    assert "deploymentBase" not in (await ddi())["_links"]
    with pytest.raises(APIError, match="410"):
        await ddi.deploymentBase[number].feedback(CLOSED, SUCCESS)
    assert (await acme.row(device_id))["firmware_version"] == "1.0.0"


async def test_attributes_are_merged_replaced_and_removed(edge: RunningEdge, acme: Owner) -> None:
    """As the mode says; and a device speaks for itself alone."""
    device_id, other = await acme.device(), await acme.device()
    path = f"/default/controller/v1/{device_id}/configData"
    key = f"TargetToken {edge.services.access_key(device_id, 0)}"
    for body, details in (
        ({"data": {"a": "1", "b": "2"}}, {"a": "1", "b": "2"}),
        ({"mode": "merge", "data": {"b": "3"}}, {"a": "1", "b": "3"}),
        ({"mode": "remove", "data": {"a": ""}}, {"b": "3"}),
        ({"mode": "replace", "data": {"c": "4"}}, {"c": "4"}),
    ):
        assert (await acme.ask("PUT", path, body, key))[0] == 200
        assert (await acme.row(device_id))["details"] == details
    for body in ({"data": {"a": 1}}, {"mode": "all", "data": {}}, {}, {"data": {"a": "x" * 256}}):
        assert (await acme.ask("PUT", path, body, key))[0] == 422
    stranger = f"TargetToken {edge.services.access_key(other, 0)}"
    assert (await acme.ask("PUT", path, {"data": {}}, stranger))[0] == 401
    assert (await acme.row(device_id))["details"] == {"c": "4"}
