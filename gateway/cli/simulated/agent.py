"""`fleetgate agent`: makes the machine it runs on a device.

It sends CPU, memory, disk, temperature and uptime, opens an incident while its disk is full, and follows the protocol
as `device_client` tells it. Its keys lie in a file that only its user can read. The owner sets the interval by the
config member `interval_s`, and may send the commands `ping`, `report` (the answer's message has the measurements) and
`set_name`.
"""

import argparse
import hashlib
import os
import socket
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from gateway.cli.arguments import base_url, seconds
from gateway.cli.demo_file import Demo, default_path
from gateway.cli.secret_file import write_secret
from gateway.cli.simulated.client import Device, Memory
from gateway.cli.simulated.happenings import Happenings
from gateway.cli.stopping import stop_event
from schemas.command_settings import AgentSettings
from schemas.environment import listing, load
from schemas.settings import SettingsError

VERSION = "1.0.0"
DISK_FULL = 97.0
"""From so many percent on it is an incident of the device's own."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "agent",
        help="make this machine a device",
        description=__doc__,
        epilog=listing(AgentSettings),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--url", type=base_url, help="base URL of the gateway (default: that of the demo)")
    parser.add_argument("--hardware-key", help="hardware key of the device's model (default: the demo's)")
    parser.add_argument("--keys", type=Path, default=Path("agent.json"), metavar="FILE", help="where its keys are kept")
    parser.add_argument(
        "--license-key", type=Path, metavar="FILE", help="PEM that licenses are checked with (default: the demo's)"
    )
    parser.add_argument("--sn", help="serial number (default: from the machine's id)")
    parser.add_argument("--mac", help="MAC address (default: this machine's)")
    parser.add_argument(
        "--interval", type=seconds, default=30.0, metavar="SECONDS", help="until a config says otherwise"
    )
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM."""
    settings = load(AgentSettings, os.environ)
    url = arguments.url or settings.agent_url.rstrip("/")
    hardware_key = arguments.hardware_key or settings.agent_hardware_key
    license_key = arguments.license_key.read_text() if arguments.license_key else ""
    if not url or not hardware_key:
        demo = Demo.read(default_path())
        license_key = license_key or demo.license_key
        url, hardware_key = url or demo.base_url, hardware_key or demo.hardware_key
    registration = {
        "hardware_key": hardware_key,
        "sn": arguments.sn or serial_number(),
        "mac": arguments.mac or mac_address(),
        "firmware_version": VERSION,
        "name": socket.gethostname(),
    }
    keys: Path = arguments.keys
    memory = _recalled(keys)
    write_secret(keys, memory)  # if this cannot be done, better now than once the keys have been issued
    stop = stop_event()
    print(f"device {registration['sn']} ({registration['mac']}) talks to {url}; keys in {keys}", flush=True)
    psutil.cpu_percent()  # measures since the last time it was asked
    counts: Counter[str] = Counter()
    happenings = Happenings()
    async with aiohttp.ClientSession() as http:
        device = Device(
            http,
            url,
            registration,
            lambda: watched(measure(), happenings),
            memory=memory,
            remember=lambda memory: write_secret(keys, memory),
            tell=lambda text: print(text, flush=True),
            interval_s=arguments.interval,
            counts=counts,
            follow_hub_url=True,
            happenings=happenings,
            license_key=license_key,
        )
        await device.run(stop)
    print(", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing sent", flush=True)
    return 0


def measure() -> dict[str, Any]:
    """What this machine can tell of itself. Percentages, °C, seconds."""
    values: dict[str, Any] = {
        "cpu": psutil.cpu_percent(),
        "memory": psutil.virtual_memory().percent,
        "disk": psutil.disk_usage("/").percent,
        "uptime": int(time.time() - psutil.boot_time()),
    }
    sensors: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    readings = [reading.current for group in sensors.values() for reading in group if reading.current]
    if readings:
        values["temperature"] = max(readings)
    return values


def watched(values: dict[str, Any], happenings: Happenings) -> dict[str, Any]:
    """The values, after a look at what is wrong by them."""
    if values["disk"] >= DISK_FULL:
        happenings.wrong["disk"] = "Disk is full"
    else:
        happenings.wrong.pop("disk", None)
    return values


def mac_address() -> str:
    """This machine's hardware address."""
    return ":".join(f"{byte:02x}" for byte in uuid.getnode().to_bytes(6))


def serial_number() -> str:
    """A serial number that stays: a digest of the machine's id, which itself is not for others to know."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        if path.exists() and (text := path.read_text().strip()):
            return hashlib.blake2b(text.encode(), digest_size=8, person=b"fleetgate agent").hexdigest()
    return mac_address().replace(":", "")


def _recalled(keys: Path) -> Memory:
    try:
        return msgspec.json.decode(keys.read_bytes(), type=Memory) if keys.exists() else Memory()
    except msgspec.DecodeError as error:
        raise SettingsError(f"{keys} does not hold the keys of a device: {error}; take another with --keys") from None
