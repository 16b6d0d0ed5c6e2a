"""One command runs the whole stack, and what a device sends ends in history."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from gateway.cli.embedded import free_port


class Up:
    """A running `fleetgate up --demo`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"

    async def start(self) -> str:
        """Start it and wait for its `ready` line; returns what it printed."""
        environment = {**os.environ, "FLEETGATE_HOME": str(self.home), "FLEETGATE_BIND": self.url[7:]}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.cli.main", "up", "--demo", env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None
        said = ""
        async with asyncio.timeout(60):
            while not said.endswith(f"ready {self.url}\n"):
                line = (await self.process.stdout.readline()).decode()
                assert line, said
                said += line
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        return said

    async def end(self, how: signal.Signals) -> int:
        """Signal it, and wait until neither it nor any child is left; returns its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        code = await self.process.wait()
        async with asyncio.timeout(40):
            while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in self.children):
                await asyncio.sleep(0.05)
        return code


@pytest.fixture
async def stack(tmp_path: Path) -> Any:
    running = Up(tmp_path / "home")
    yield running
    await running.end(signal.SIGKILL)


async def live_a_device_life(stack: Up, serial: str) -> None:
    """Register, claim, send, and wait until the owner sees the state."""
    demo = json.loads((stack.home / "demo.json").read_text())
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
        async with asyncio.timeout(10):
            while True:
                async with http.get(f"/core/v1/organization/devices/{device['id']}", headers=owner) as response:
                    seen = await response.json()
                if seen["state"].get("cpu") == 1.5:
                    return
                await asyncio.sleep(0.05)


async def test_a_device_lives_its_life_across_restarts_and_a_crash(stack: Up) -> None:
    """Ctrl-C ends everything cleanly, kill -9 leaves nothing behind, and each next start has the same tenant."""
    await stack.start()
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


async def test_a_busy_port_is_a_sentence(stack: Up) -> None:
    """Exit 1, the address and the setting to change; no trace."""
    await stack.start()
    environment = {**os.environ, "FLEETGATE_HOME": f"{stack.home}-2", "FLEETGATE_BIND": stack.url[7:]}
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli.main", "up", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await other.communicate()
    assert other.returncode == 1
    assert said.decode().startswith(f"fleetgate up: cannot listen on {stack.url[7:]}: Address already in use")
    assert "FLEETGATE_BIND" in said.decode()
