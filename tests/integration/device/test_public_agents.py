"""A life as a public vendor agent leads it: its own order of calls, headers and bodies, and its habit of forgetting its
keys and registering again upon any 401 or 403, of whatever URL of ours."""

import json
from dataclasses import dataclass
from typing import Any

import yarl
from fleets import Fleet
from owners import Owner

from gateway.stores.commands import definitions

FIRMWARE = b'{"image":"2.0.0"}'


@dataclass
class Agent:
    """Remembers what it was answered at registration, and knows no more."""

    owner: Owner
    memory: dict[str, Any]

    async def call(self, method: str, url: str, body: Any = None, content_type: str = "application/json") -> Any:
        """With the key on every URL; whatever the status, the answer is read as JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"authorization": self.memory["access_key"], "content-type": content_type}
        address = yarl.URL(url, encoded=True)
        async with self.owner.http.request(method, address, data=data, headers=headers) as answer:
            assert answer.status not in (401, 403), "it would forget its keys"
            return await answer.json(content_type=None)

    def url(self, path: str) -> str:
        return f"{self.memory['hub_url']}/v1/devices/{self.memory['id']}{path}"

    async def report(self, command: dict[str, Any], status: str, message: str = "") -> None:
        await self.call("POST", self.url("/command"), {"id": command["id"], "status": status, "message": message})


async def test_a_public_agent_lives_through_config_commands_firmware_dump_and_licence(
    fleet: Fleet, acme: Owner
) -> None:
    """It sends the whole config back, fetches firmware with its key, mistakes a dump's answer for its id."""
    for name in ("dump", "update_firmware"):
        await definitions.add(acme.pool, acme.model_id, name=name, needs_file=name == "update_firmware")
    registered = (await fleet.ask("POST", "/v1/devices", fleet.registration(firmware_version="1.0.3")))[1]
    agent = Agent(acme, registered)
    row = await acme.row(registered["id"])
    await acme.call("POST", "/devices/claim", {"space_id": str(acme.space_id), "mac": row["mac"], "sn": row["sn"]})
    device = f"/devices/{registered['id']}"

    await acme.call("PUT", f"{device}/config", {"config": {"brightness": 7}})
    message = {"status": "online", "telemetries": {"totalMemory": 25276502016, "loadAverage": 0.5, "arch": "x64"}}
    assert (await agent.call("POST", agent.url("/telemetry"), message))["config_version"] == 1
    config = await agent.call("GET", agent.url("/config"))
    assert await agent.call("POST", agent.url("/config"), config) == {"success": True, "version": 1}

    made = await acme.partner(
        "POST", "/files", {"model_id": str(acme.model_id), "name": "F", "file_type": "firmware", "version": "2.0.0"}
    )
    content = f"{acme.url}/core/v1/partner/files/{made['id']}/content"
    async with acme.http.put(content, data=FIRMWARE, headers={"authorization": acme.partner_key}) as answer:
        assert answer.status == 200
    await acme.partner("POST", f"/files/{made['id']}/release")
    for sent in ({"command": "update_firmware", "file_id": made["id"]}, {"command": "dump"}):
        await acme.call("POST", f"{device}/commands", sent)
    update = await agent.call("GET", agent.url("/command"))
    await agent.report(update, "in_progress")
    assert await agent.call("GET", update["parameters"]["url"]) == json.loads(FIRMWARE)
    await agent.report(update, "done", "server firmware version: 2.0.0, device firmware version: 1.0.3")
    dump = await agent.call("GET", agent.url("/command"))
    told = await agent.call("POST", agent.url("/dumps/text%2Ftxt/agent.log"), b"an error\n", "text/plain")
    mistaken = await agent.call("PUT", agent.url("/dumps/[object%20Object]"), b"a line\n", "text/plain")
    assert "error" in mistaken
    assert await agent.call("PUT", agent.url(f"/dumps/{told['id']}"), b"a line\n", "text/plain") == {"length": 16}
    await agent.report(dump, "done")
    assert await agent.call("GET", agent.url("/command")) == {}

    created = await acme.partner("POST", "/licenses", {"model_id": str(acme.model_id), "data": "all"})
    await acme.partner("POST", f"/licenses/{created['id']}/assign", {"device_id": registered["id"]})
    assert (await agent.call("POST", agent.url("/telemetry"), message))["new_licenses"] is True
    [licence] = await agent.call("GET", agent.url("/licenses"))
    assert licence["add"] is True
    await agent.call("POST", agent.url("/licenses"), {"id": licence["id"], "state": "inuse"})
    told = await agent.call("POST", agent.url("/telemetry"), message)
    assert (told["command"], told["new_licenses"]) == (False, False)
