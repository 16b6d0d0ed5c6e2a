"""`fleetgate fleet`: simulated devices against a running gateway.

They register, are claimed into the demo's space, send values that wander, tell events, and obey config and commands,
each as `device_client` tells it. Their disks fill up and are cleaned, so that the demo's rule opens and closes
incidents. Their keys are kept beside the demo's, so that a restart goes on with the same devices.
"""

import argparse
import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from gateway.cli.arguments import base_url, count, seconds
from gateway.cli.demo_file import Demo, default_path
from gateway.cli.secret_file import write_secret
from gateway.cli.simulated import release
from gateway.cli.simulated.calls import TIMEOUT_S
from gateway.cli.simulated.client import Device, Memory
from gateway.cli.simulated.happenings import Happenings
from gateway.cli.simulated.release import ReleaseError
from gateway.cli.stopping import stop_event, stopped
from schemas.settings import SettingsError

DEVICES_MAX = 1_000
FIRMWARE = "0.9.0"
"""What they were made with: older than the firmware that is rolled out to them."""
PROGRESS_S = 10.0
CLAIM_CHECK_S, CLAIMED_CHECK_S = 1.0, 10.0
"""How often it is looked whether a device waits to be claimed, and whether one that was claimed registered anew."""
DISK_FULL, CLEANED = 98.0, 50.0
"""How full a disk is when it is cleaned, and after that."""


class Production(Struct):
    """The devices that were made so far. `batch` sets them apart from those of another file: four hex digits."""

    batch: str
    devices: dict[str, Memory] = {}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "fleet", help="simulate devices", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--devices", type=count(DEVICES_MAX), default=10, metavar="N", help="how many (default 10)")
    parser.add_argument("--interval", type=seconds, default=5.0, metavar="SECONDS", help="between two messages of each")
    parser.add_argument(
        "--demo", type=Path, metavar="FILE", help="the demo's keys (default: $FLEETGATE_HOME/demo.json)"
    )
    parser.add_argument("--rollout", action="store_true", help="with firmware that is rolled out to the devices")
    parser.add_argument("--url", type=base_url, help="another gateway; nobody claims the devices then")
    parser.add_argument("--hardware-key", help="hardware key of the devices' model there")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="where their keys are kept (default: fleet.json)")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM."""
    if (arguments.url is None) != (arguments.hardware_key is None):
        raise SettingsError("--url and --hardware-key belong together")
    demo_file: Path = arguments.demo or default_path()
    demo = Demo.read(demo_file) if arguments.url is None else None
    keys = arguments.keys or (Path("fleet.json") if demo is None else demo_file.with_name("fleet.json"))
    production = _recalled(keys)
    url, hardware_key = (demo.base_url, demo.hardware_key) if demo else (arguments.url, arguments.hardware_key)
    stop = stop_event()
    counts: Counter[str] = Counter()
    troubles: Counter[str] = Counter()

    def remember(sn: str, memory: Memory) -> None:
        production.devices[sn] = memory
        write_secret(keys, production, durable=False)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        for number in range(arguments.devices):
            sn = f"demo-{production.batch}-{number:04}"
            mac = f"02:fe:{production.batch[:2]}:{production.batch[2:]}:{number >> 8:02x}:{number & 255:02x}"
            happenings = Happenings()
            device = Device(
                http,
                url,
                {
                    "hardware_key": hardware_key,
                    "sn": sn,
                    "mac": mac,
                    "firmware_version": FIRMWARE,
                    "name": f"Demo {number + 1}",
                },
                wandering(random.Random(number), happenings),  # noqa: S311
                memory=production.devices.setdefault(sn, Memory()),
                remember=lambda memory, sn=sn: remember(sn, memory),  # type: ignore[misc]
                tell=lambda text: troubles.update([text.partition(": trying again")[0]]),
                interval_s=arguments.interval,
                counts=counts,
                license_key=demo.license_key if demo else "",
                happenings=happenings,
                follow_hub_url=False,  # the gateway that is meant is the one that is named
            )
            group.create_task(_live(device, arguments.interval, stop), name=sn)
            if demo is not None:
                group.create_task(_claim(device, demo, http, sn, mac, stop, counts), name=f"claim of {sn}")
        if demo is not None and arguments.rollout:
            group.create_task(_roll_out(demo, http, arguments.devices, stop, counts), name="rollout")
        group.create_task(_progress(counts, troubles, arguments.devices, stop), name="progress")
    print(_told(counts, troubles, arguments.devices), flush=True)
    return 0


async def _live(device: Device, interval_s: float, stop: asyncio.Event) -> None:
    # Devices that all began at the same moment would talk in step for ever.
    if not await stopped(stop, random.uniform(0, interval_s)):  # noqa: S311
        await device.run(stop)


async def _claim(
    device: Device,
    demo: Demo,
    http: aiohttp.ClientSession,
    sn: str,
    mac: str,
    stop: asyncio.Event,
    counts: Counter[str],
) -> None:
    """Claim the device once it is registered, and again whenever it has registered anew."""
    claimed, wait_s = "", CLAIM_CHECK_S
    body = {"space_id": demo.space_id, "mac": mac, "sn": sn}
    headers = {"authorization": demo.organization_key}
    url = f"{demo.base_url}/core/v1/organization/devices/claim"
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    while not await stopped(stop, wait_s):
        registered = device.memory.id
        wait_s = CLAIM_CHECK_S if not registered else CLAIMED_CHECK_S
        if registered in ("", claimed) or device.memory.space_data_version:
            continue
        try:
            async with http.post(url, json=body, headers=headers, timeout=timeout) as answer:
                counts["claimed" if answer.status < 300 else "claims refused"] += 1
                if answer.status < 500 and answer.status != 429:
                    claimed = registered
        except (aiohttp.ClientError, TimeoutError):
            counts["unreachable"] += 1


async def _roll_out(
    demo: Demo, http: aiohttp.ClientSession, devices: int, stop: asyncio.Event, counts: Counter[str]
) -> None:
    """Roll firmware out once all devices were claimed: a rollout is for those that are there when it starts."""
    while not await stopped(stop, CLAIM_CHECK_S):
        if counts["claimed"] < devices:
            continue
        try:
            if await release.roll_out(demo, http):
                counts["rollouts started"] += 1
            return
        except ReleaseError as error:
            print(f"fleet: no rollout yet: {error}", flush=True)


async def _progress(counts: Counter[str], troubles: Counter[str], devices: int, stop: asyncio.Event) -> None:
    while not await stopped(stop, PROGRESS_S):
        print(_told(counts, troubles, devices), flush=True)
        troubles.clear()


def _told(counts: Counter[str], troubles: Counter[str], devices: int) -> str:
    summary = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    trouble = "".join(f"; {number} x {text}" for text, number in troubles.most_common(1))
    return f"fleet: {devices} devices: {summary or 'nothing yet'}{trouble}"


def _recalled(keys: Path) -> Production:
    """What a fleet before this one was; without one, or with a file of something else, a new batch."""
    try:
        return msgspec.json.decode(keys.read_bytes(), type=Production)
    except (FileNotFoundError, msgspec.DecodeError):
        return Production(secrets.token_hex(2))


def wandering(source: random.Random, happenings: Happenings) -> Callable[[], dict[str, Any]]:
    """Measurements that change a little each time. The disk fills up until it is cleaned, which is an event."""
    values = {"temperature": 21.0, "humidity": 45.0, "cpu": 20.0}
    disk = source.uniform(CLEANED, DISK_FULL)

    def measure() -> dict[str, Any]:
        nonlocal disk
        for key in values:
            values[key] = round(min(95.0, max(1.0, values[key] + source.gauss(0, 0.5))), 2)
        disk += source.uniform(0.5, 3)
        if disk >= DISK_FULL:
            happenings.events.append({"name": "disk_cleaned", "category": "storage", "int_key_1": int(disk - CLEANED)})
            disk = CLEANED
        return {**values, "disk": round(disk, 1), "door_open": source.random() < 0.1}

    return measure
