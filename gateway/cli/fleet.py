"""`fleetgate fleet`: simulated devices against a running gateway.

They register, are claimed into the demo's space, send values that wander, and obey config and commands, each as
`device_client` tells it. Their keys are kept beside the demo's, so that a restart goes on with the same devices.
"""

import argparse
import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from gateway.cli.demo import Demo, default_path
from gateway.cli.device_client import TIMEOUT_S, Device, Memory, write_secret

DEVICES_MAX = 1_000
PROGRESS_S = 10.0
CLAIM_RETRY_S = 1.0


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "fleet", help="simulate devices", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--devices", type=_count, default=10, metavar="N", help="how many (default 10)")
    parser.add_argument("--interval", type=float, default=5.0, metavar="SECONDS", help="between two messages of each")
    parser.add_argument(
        "--demo", type=Path, metavar="FILE", help="the demo's keys (default: $FLEETGATE_HOME/demo.json)"
    )
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM."""
    told = arguments.demo or default_path()
    demo = Demo.read(told)
    path = told.with_name("fleet.json")
    memories = msgspec.json.decode(path.read_bytes(), type=dict[str, Memory]) if path.exists() else {}
    stop = asyncio.Event()
    for how in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(how, stop.set)
    counts: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(demo.base_url, connector=connector) as http, asyncio.TaskGroup() as group:
        for number in range(arguments.devices):
            sn, mac = f"demo-{number:05}", f"02:fe:00:00:{number >> 8:02x}:{number & 255:02x}"
            device = Device(
                http,
                {
                    "hardware_key": demo.hardware_key,
                    "sn": sn,
                    "mac": mac,
                    "firmware_version": "1.0.0",
                    "name": f"Demo {number + 1}",
                },
                wandering(random.Random(number)),  # noqa: S311
                memory=memories.setdefault(sn, Memory()),
                remember=lambda memory, sn=sn: _remember(path, memories, sn, memory),  # type: ignore[misc]
                interval_s=arguments.interval,
                counts=counts,
            )
            group.create_task(_live(device, demo, http, sn, mac, arguments.interval, stop), name=sn)
        group.create_task(_tell(counts, arguments.devices, stop), name="progress")
    return 0


async def _live(
    device: Device, demo: Demo, http: aiohttp.ClientSession, sn: str, mac: str, interval_s: float, stop: asyncio.Event
) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_claim(device, demo, http, sn, mac, stop))
        # Devices that all began at the same moment would talk in step for ever.
        await asyncio.sleep(random.uniform(0, interval_s))  # noqa: S311
        group.create_task(device.run(stop))


async def _claim(
    device: Device, demo: Demo, http: aiohttp.ClientSession, sn: str, mac: str, stop: asyncio.Event
) -> None:
    """Claim the device once it is registered, and again whenever it has registered anew."""
    claimed = ""
    body = {"space_id": demo.space_id, "mac": mac, "sn": sn}
    headers = {"authorization": demo.organization_key}
    while not stop.is_set():
        if device.memory.id != claimed and device.memory.id and not device.memory.space_data_version:
            registered = device.memory.id
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            try:
                url = "/core/v1/organization/devices/claim"
                async with http.post(url, json=body, headers=headers, timeout=timeout) as answer:
                    if answer.status < 500:
                        claimed = registered
            except (aiohttp.ClientError, TimeoutError) as error:
                print(f"fleet: cannot claim {sn}: {error}", file=sys.stderr, flush=True)
        try:
            await asyncio.wait_for(stop.wait(), CLAIM_RETRY_S)
        except TimeoutError:
            continue


async def _tell(counts: Counter[str], devices: int, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), PROGRESS_S)
        except TimeoutError:
            told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
            print(f"fleet: {devices} devices: {told or 'nothing yet'}", flush=True)


def _remember(path: Path, memories: dict[str, Memory], sn: str, memory: Memory) -> None:
    memories[sn] = memory
    write_secret(path, memories)


def wandering(source: random.Random) -> Callable[[], dict[str, Any]]:
    """Measurements that change a little each time."""
    told = {"temperature": 21.0, "humidity": 45.0, "cpu": 20.0}

    def measure() -> dict[str, Any]:
        for key in told:
            told[key] = round(min(95.0, max(1.0, told[key] + source.gauss(0, 0.5))), 2)
        return {**told, "door_open": source.random() < 0.1}

    return measure


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= DEVICES_MAX:
        raise argparse.ArgumentTypeError(f"must be a number between 1 and {DEVICES_MAX}")
    return int(text)
