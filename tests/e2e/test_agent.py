"""The reference agent against the whole stack: it follows everything that an answer can tell it."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp

from gateway.cli.local.embedded import EmbeddedValkey, free_port
from tests.e2e.stack import Up


class Owner:
    """The demo's owner."""

    def __init__(self, stack: Up, http: aiohttp.ClientSession) -> None:
        self.stack = stack
        self.http = http

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": self.stack.demo["organization_key"]}
        url = f"{self.stack.url}/core/v1/organization{path}"
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def device(self, device_id: str) -> Any:
        return await self.call("GET", f"/devices/{device_id}")

    async def command(self, device_id: str, command: str, **parameters: Any) -> Any:
        """Send a command and wait for its end."""
        body = {"command": command, "extra_params": parameters}
        sent = await self.call("POST", f"/devices/{device_id}/commands", body)
        async with asyncio.timeout(60):
            while True:
                page = await self.call("GET", f"/devices/{device_id}/commands")
                found = next(item for item in page["items"] if item["id"] == sent["id"])
                if found["status"] in ("done", "failed"):
                    return found
                await asyncio.sleep(0.05)


async def licensed(stack: Up, http: aiohttp.ClientSession, device_id: str) -> str:
    """A licence that the demo's vendor gave to a device; its id."""
    body, path = {"model_id": stack.demo["model_id"], "data": "night mode"}, f"{stack.url}/core/v1/partner/licenses"
    headers = {"authorization": stack.demo["partner_key"]}
    async with http.post(path, json=body, headers=headers) as answer:
        license_id = str((await answer.json())["id"])
    async with http.post(f"{path}/{license_id}/assign", json={"device_id": device_id}, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    return license_id


async def identity(path: Path, other_than: str = "") -> dict[str, Any]:
    """What the agent remembers, once it has an id."""
    async with asyncio.timeout(60):
        while True:
            if path.exists():
                found: dict[str, Any] = json.loads(path.read_text())
                if found["id"] not in ("", other_than):
                    return found
            await asyncio.sleep(0.05)


async def test_an_agent_lives_its_whole_life(demo: Up, tmp_path: Path) -> None:
    """Registers, is claimed, takes config, commands and a licence, is deleted, and registers anew."""
    keys = tmp_path / "agent.json"
    agent = await demo.command(
        "agent", "--keys", str(keys), "--interval", "0.2", "--sn", "A1", "--mac", "02:00:00:00:00:a1"
    )
    first = await identity(keys)
    assert keys.stat().st_mode & 0o777 == 0o600
    async with aiohttp.ClientSession() as http:
        owner = Owner(demo, http)
        claim = {"space_id": demo.demo["space_id"], "mac": "02:00:00:00:00:a1", "sn": "A1"}
        assert (await owner.call("POST", "/devices/claim", claim))["id"] == first["id"]
        async with asyncio.timeout(60):
            while not {"cpu", "memory", "disk", "uptime"} <= (await owner.device(first["id"]))["state"].keys():
                await asyncio.sleep(0.05)
        assert (await owner.command(first["id"], "ping"))["message"] == "pong"
        reboot = await owner.command(first["id"], "reboot")
        assert (reboot["status"], reboot["message"]) == ("failed", "This device does not know the command reboot")
        assert (await owner.command(first["id"], "set_name", name="Hall 7"))["status"] == "done"
        assert (await owner.device(first["id"]))["name"] == "Hall 7"
        await owner.call("PUT", f"/devices/{first['id']}/config", {"config": {"interval_s": 1}})
        async with asyncio.timeout(60):
            while json.loads(keys.read_text())["interval_s"] != 1.0:
                await asyncio.sleep(0.05)
        license_id = await licensed(demo, http, first["id"])
        async with asyncio.timeout(20):
            while (await owner.call("GET", f"/licenses/{license_id}"))["state"] != "inuse":
                await asyncio.sleep(0.05)
        assert json.loads(keys.read_text())["licenses"][license_id]["data"] == "night mode"
        await owner.call("DELETE", f"/devices/{first['id']}")
        second = await identity(keys, first["id"])
        assert second["access_key"] != first["access_key"]
    agent.send_signal(signal.SIGHUP)  # its terminal is closed
    assert await agent.wait() == 0


async def test_the_demos_rule_opens_and_closes_incidents_of_a_fleet(demo: Up, tmp_path: Path) -> None:
    """Disks fill up and are cleaned; the incidents hold the values of both. Events are told on the way."""
    keys = tmp_path / "fleet.json"
    fleet = await demo.command("fleet", "--devices", "3", "--interval", "0.1", "--keys", str(keys))
    query = {"status": "closed", "title": "Disk is nearly full", "per_page": 100}
    headers = {"authorization": demo.demo["organization_key"]}
    async with aiohttp.ClientSession(demo.url, headers=headers) as http, asyncio.timeout(60):
        items: list[dict[str, Any]] = []
        while not items:
            await asyncio.sleep(0.1)
            async with http.get("/core/v1/organization/incidents", params=query) as answer:
                closed = (await answer.json())["items"]
            # The demo's own devices have incidents of the same rule: those say nothing of this fleet.
            made = json.loads(keys.read_text())["devices"].values() if keys.exists() else ()
            items = [one for one in closed if one["device_id"] in {device["id"] for device in made}]
    fleet.send_signal(signal.SIGTERM)
    told, _ = await fleet.communicate()
    assert fleet.returncode == 0
    assert all(one["kind"] == "rule" and one["opened_value"] > 90 >= one["closed_value"] + 10 for one in items)
    assert b" events" in told


async def test_the_doctor_says_what_a_2xx_means(demo: Up, tmp_path: Path) -> None:
    """All is well with the embedded servers; a Redis that may lose a second or throws data away is told of."""
    well = await demo.command("doctor")
    said, _ = await well.communicate()
    assert well.returncode == 0, said
    assert "A 2xx means: on disk." in said.decode()
    poor = EmbeddedValkey(tmp_path / "valkey", port=free_port(), fsync="everysec")
    poor.start(maxmemory_policy="allkeys-lru")
    servers = json.loads((demo.home / "run" / "servers.json").read_text())
    ill = await demo.command(
        "doctor",
        FLEETGATE_POSTGRES_DSN=servers["postgres_dsn"],
        FLEETGATE_MASTER_KEY=servers["master_key"],
        FLEETGATE_REDIS_URL=poor.url,
        FLEETGATE_BIND="0.0.0.0:8080",
    )
    said, _ = await ill.communicate()
    poor.stop()
    assert ill.returncode == 1
    assert "set noeviction" in said.decode()
    assert "set FLEETGATE_PUBLIC_URL" in said.decode()
    assert "A power cut can lose the last second." in said.decode()
