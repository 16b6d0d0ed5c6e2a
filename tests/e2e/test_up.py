"""One command runs the whole stack, and what a device sends ends in history."""

import asyncio
import json
import os
import signal
import sys
from typing import Any

import aiohttp
import disruptive
import psutil
from disruptive.authentication import ServiceAccountAuth

from schemas.manifests import catalog
from tests.e2e.stack import Up


async def live_a_device_life(stack: Up, serial: str) -> None:
    """Register, claim, send, and wait until the owner sees the state."""
    demo = stack.demo
    mac = f"02:00:00:00:00:{serial}"
    async with aiohttp.ClientSession(stack.url) as http:
        body = {"hardware_key": demo["hardware_key"], "sn": serial, "mac": mac, "firmware_version": "1.0.0"}
        async with http.post("/v1/devices", json=body) as response:
            assert response.status == 201
            device = await response.json()
        owner = {"authorization": demo["organization_key"]}
        claim = {"space_id": demo["space_id"], "mac": mac, "sn": serial}
        async with http.post("/core/v1/organization/devices/claim", json=claim, headers=owner) as response:
            assert response.status == 200
        key = {"authorization": device["access_key"]}
        message = {"status": "online", "telemetries": {"cpu": 1.5}}
        async with http.post(f"/v1/devices/{device['id']}/telemetry", json=message, headers=key) as response:
            assert response.status == 201
            assert (await response.json())["space_data_version"] == 1
        async with asyncio.timeout(40):
            while True:
                async with http.get(f"/core/v1/organization/devices/{device['id']}", headers=owner) as response:
                    seen = await response.json()
                if seen["state"].get("cpu") == 1.5:
                    return
                await asyncio.sleep(0.05)


def simulators(stack: Up) -> list[psutil.Process]:
    """The demo's devices, receiver and vendor."""
    return [child for child in stack.children if {"fleet", "receiver", "vendor"} & {*words_of(child)}]


def words_of(process: psutil.Process) -> list[str]:
    """Its command; none of one that has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


async def test_a_device_lives_its_life_across_restarts_and_a_crash(stack: Up) -> None:
    """Ctrl-C ends everything cleanly, kill -9 leaves nothing behind, and each next start has the same tenant."""
    await stack.start()
    secrets = json.loads((stack.home / "secrets.json").read_text())
    assert simulators(stack)
    for child in simulators(stack):
        assert not [name for name, value in child.environ().items() if value in secrets.values() or "_DSN" in name]
    path = stack.home / "demo.json"
    assert path.stat().st_mode & 0o777 == 0o600
    demo = json.loads(path.read_text())
    assert demo["base_url"] == stack.url
    await live_a_device_life(stack, "01")
    assert await stack.end(signal.SIGINT) == 0
    await stack.start()
    assert json.loads(path.read_text()) == demo
    await live_a_device_life(stack, "02")
    await stack.end(signal.SIGKILL)
    await stack.start()
    await live_a_device_life(stack, "03")


async def test_a_busy_port_is_a_sentence(demo: Up) -> None:
    """Exit 1, the address and the setting to change; no trace."""
    other = await demo.command("up", FLEETGATE_HOME=f"{demo.home}-2")
    _, said = await other.communicate()
    assert other.returncode == 1
    assert said.decode().startswith(f"fleetgate up: cannot listen on {demo.url[7:]}: Address already in use")
    assert "FLEETGATE_BIND" in said.decode()


async def test_a_server_that_dies_is_started_again(stack: Up) -> None:
    """PostgreSQL and Valkey killed: the stack recovers by itself, and a device lives its life."""
    await stack.start()
    for name in ("postgres", "valkey"):
        pid = int((stack.home / f"{name}.pid").read_text())
        psutil.Process(pid).kill()
        async with asyncio.timeout(30):
            while (stack.home / f"{name}.pid").read_text() == str(pid):
                await asyncio.sleep(0.05)
    async with aiohttp.ClientSession(stack.url) as http, asyncio.timeout(40):
        while True:
            async with http.get("/readyz") as response:
                if response.status == 200:
                    break
            await asyncio.sleep(0.1)
    await live_a_device_life(stack, "01")


async def test_the_demo_fleet_talks(demo: Up) -> None:
    """Ten devices register, are claimed, and their messages are counted on the terminal."""
    assert demo.process.stdout is not None
    owner = {"authorization": demo.demo["organization_key"]}
    async with aiohttp.ClientSession(demo.url, headers=owner) as http, asyncio.timeout(60):
        well: dict[str, Any] = {}  # each at some time: now and then the disk of one is full, another restarts
        while len(well) < 10:
            await asyncio.sleep(0.1)
            async with http.get("/core/v1/organization/devices") as response:
                devices = (await response.json())["items"]
            fleet = [device for device in devices if device["model"]["name"] == "Demo device"]
            well |= {device["id"]: device for device in fleet if device["effective_status"] == "ok"}
        async with http.get("/core/v1/organization/info") as response:
            assert (await response.json())["short_code"] == demo.demo["short_code"] != ""
        line = ""
        while not (line.startswith("stored ") and int(line.split("; ")[1].split()[0]) >= 10):
            line = (await demo.process.stdout.readline()).decode()
            assert line
    assert {device["space"]["full_path"] for device in well.values()} == {"Headquarters"}


async def test_what_devices_do_arrives_at_the_demos_receiver(demo: Up) -> None:
    """Signed, through the real dispatcher; the public client library sees the same events."""
    log = demo.home / "log" / "receiver.log"
    async with asyncio.timeout(60):
        while not log.exists() or " telemetry " not in log.read_text() or " deviceClaimed " not in log.read_text():
            await asyncio.sleep(0.1)
    assert "refused" not in log.read_text()
    made = demo.demo
    credentials = json.loads((demo.home / "credentials.json").read_text())
    account = ServiceAccountAuth.from_credentials_file(credentials)
    disruptive.base_url = made["v2_url"]
    async with asyncio.timeout(60):
        delivered = 0
        while delivered == 0:
            await asyncio.sleep(0.5)
            metrics = await asyncio.to_thread(
                disruptive.DataConnector.get_metrics, made["data_connector_id"], made["project_id"], auth=account
            )
            delivered = metrics.success_count
    assert metrics.error_count == 0
    async with asyncio.timeout(60):
        while True:
            devices = await asyncio.to_thread(disruptive.Device.list_devices, made["project_id"], auth=account)
            told = [device for device in devices if device.device_type == "temperature" and device.reported.temperature]
            if len(told) >= 10:
                break
            await asyncio.sleep(0.2)
    assert all(0 < device.reported.temperature.celsius < 96 for device in told)


async def test_the_demos_cloud_connector_imports_a_simulated_cloud(demo: Up) -> None:
    """Its rooms are devices like others, with telemetry; preview and checking the manifest work by hand."""
    one = f"/core/v1/organization/connectors/{demo.demo['cloud_connector_id']}"
    owner = {"authorization": demo.demo["organization_key"]}
    async with aiohttp.ClientSession(demo.url, headers=owner) as http:

        async def get(path: str) -> Any:
            async with http.get(path) as answer:
                assert answer.status == 200
                return await answer.json()

        async with asyncio.timeout(60):
            rooms: list[Any] = []
            while len(rooms) < 8 or not all("temperature" in room["state"] for room in rooms):
                await asyncio.sleep(0.2)
                devices = await get("/core/v1/organization/devices")
                rooms = [device for device in devices["items"] if device["name"].startswith("Room ")]
        found = await get(one)
        run = await get(f"{one}/preview")
    assert (found["status"], run["error"], run["found"] >= 8) == ("Active", None, True)
    manifest = str(catalog.FOLDER / "simulated.toml")
    check = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway.cli.main", "admin", "connectors", "check", manifest),
        *("--set", f"url={found['settings']['url']}"),
        env={**os.environ, "FLEETGATE_EGRESS_HTTP": "true", "FLEETGATE_EGRESS_ALLOW": "127.0.0.0/8"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    table, told = await check.communicate(b"token=simulated\n")
    # One or two of the twelve rooms are missing at any time.
    assert (check.returncode, b"in a complete list; 0 are no devices" in told) == (0, True)
    assert 10 <= table.count(b"\nroom-") <= 12
