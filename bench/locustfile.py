"""Whole device lives, played by locust: register, telemetry, config, command, deletion, 401, register again.

    make load, or .venv/bin/locust -f bench/locustfile.py --headless -u 50 -r 10 -t 30s

Works on the gateway of `make run`: demo.json in FLEETGATE_HOME says where it is and has the keys. Exits with 1 when a
request failed, or there is no demo.
"""

import itertools
import random
import sys
from typing import Any

from locust import FastHttpUser, between, task

from gateway.cli.demo_file import Demo, default_path
from schemas.settings import SettingsError

try:
    DEMO = Demo.read(default_path())
except SettingsError as error:
    sys.exit(f"locustfile: {error}")
OWNER = {"Authorization": DEMO.organization_key}
_numbers = itertools.count(random.randrange(1 << 40))


class Device(FastHttpUser):
    """One device and, now and then, its owner."""

    host = DEMO.base_url
    wait_time = between(0.2, 1.0)

    def on_start(self) -> None:
        """Register and be claimed."""
        number = next(_numbers)
        self.mac = ":".join(f"{byte:02x}" for byte in (2 << 40 | number % (1 << 40)).to_bytes(6, "big"))
        self.sn = f"locust-{number}"
        self.versions: dict[str, int] = {}
        self.register()

    def register(self) -> None:
        """Get an identity; the owner claims it."""
        body = {"hardware_key": DEMO.hardware_key, "sn": self.sn, "mac": self.mac, "firmware_version": "1.0.0"}
        answer = self.client.post("/v1/devices", json=body, name="register").json()
        self.id, self.key = answer["id"], {"Authorization": answer["access_key"]}
        claim = {"space_id": DEMO.space_id, "mac": self.mac, "sn": self.sn}
        self.client.post("/core/v1/organization/devices/claim", json=claim, headers=OWNER, name="claim")
        self.versions = {}
        self.deleted = False

    @task(50)
    def telemetry(self) -> None:
        """Send a message and do what the answer says."""
        message = {"status": "online", "telemetries": {"cpu": random.random() * 100, "up": True}}
        url = f"/v1/devices/{self.id}/telemetry"
        with self.client.post(url, json=message, headers=self.key, name="telemetry", catch_response=True) as answer:
            if answer.status_code == 401:
                answer.success()
                self.register()
                return
            waits: dict[str, Any] = answer.json()
        if waits["config_version"] > self.versions.get("config_version", 0):
            self.client.get(f"/v1/devices/{self.id}/config", headers=self.key, name="config")
            self.versions["config_version"] = waits["config_version"]
        while waits["command"]:
            command = self.client.get(f"/v1/devices/{self.id}/command", headers=self.key, name="command").json()
            if not command:
                break
            for status in ("in_progress", "done"):
                report = {"id": command["id"], "status": status}
                self.client.post(f"/v1/devices/{self.id}/command", json=report, headers=self.key, name="command report")

    @task(3)
    def owner_sends_a_command(self) -> None:
        """The owner pings the device, if there is one."""
        if self.deleted:
            return
        url = f"/core/v1/organization/devices/{self.id}/commands"
        self.client.post(url, json={"command": "ping"}, headers=OWNER, name="owner: command")

    @task(2)
    def owner_edits_the_config(self) -> None:
        """The owner sets another interval, if there is a device."""
        if self.deleted:
            return
        body = {"config": {"interval_s": random.randrange(5, 60)}}
        url = f"/core/v1/organization/devices/{self.id}/config"
        self.client.put(url, json=body, headers=OWNER, name="owner: config")

    @task(1)
    def owner_deletes_the_device(self) -> None:
        """The device learns it from its next answer."""
        if self.deleted:
            return
        self.deleted = True
        self.client.delete(f"/core/v1/organization/devices/{self.id}", headers=OWNER, name="owner: delete")
