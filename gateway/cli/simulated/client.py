"""The device's side of the protocol, as small as it can be and still follow all of it.

    register once; keep id, access key and hub URL
    every interval: POST telemetry, look at the answer:
        401                        forget the keys, register again
        config_version grew        GET config, apply it, PUT device {config_version}
        command                    GET command, POST in_progress, run it, POST done or failed; again until there is none
        new_licenses               GET license, check who signed it, POST what became of it; again until there is none
        what happened meanwhile    POST events, one by one
        what is wrong now          POST incidents; DELETE those that are over, and all of them after a restart
        info_version grew          GET device: the owner may have renamed it
        space_data_version grew    GET space, PUT device {space_version}
        latest_fw_version is new   GET the file, then a piece of it with every message; check, install, PUT device
                                   {firmware_version}. The command update_firmware does the same in one go
    429, 503                       come back after Retry-After
    anything else                  come back later, with full jitter

`fleetgate agent` makes the machine it runs on such a device; `fleetgate fleet` simulates many.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from gateway.cli.simulated.calls import ForgottenError, LaterError, send
from gateway.cli.simulated.firmware import CorruptError, Download, RefusedError
from gateway.cli.simulated.happenings import Happenings, Incident
from gateway.cli.simulated.licenses import InUse, Offered, applied, ended
from gateway.cli.stopping import stopped

BACK_OFF_S = (1.0, 900.0)
CONFIG_INTERVAL_S = (1.0, 86_400.0)
REPORT_AGAIN_S = 3600.0
DOWNLOAD_TRIES = 5
GONE = (400, 401, 403, 404, 410)
"""Answers to a download after which another try makes no sense."""

Command = Callable[[dict[str, Any]], Awaitable[str]]
"""Runs a command with its parameters; returns a message for the owner, raises CommandFailedError with one."""


class CommandFailedError(Exception):
    """A command could not be done; the text goes to the owner."""


class Memory(Struct):
    """What a device must not forget when it restarts.

    `url` is where it registered, `hub_url` the base URL it calls from then on; `owed` is what it applied and has
    not reported yet.
    """

    url: str = ""
    id: str = ""
    access_key: str = ""
    hub_url: str = ""
    config_version: int = 0
    info_version: int = 0
    space_data_version: int = 0
    owed: dict[str, int | str] = {}
    interval_s: float = 0.0
    name: str = ""
    licenses: dict[str, InUse] = {}
    firmware_version: str = ""


class Registered(Struct):
    """The answer to a registration."""

    id: str
    access_key: str
    hub_url: str


class Waiting(Struct):
    """The answer to telemetry: what waits for the device."""

    config_version: int
    command: bool
    info_version: int
    space_data_version: int
    new_licenses: bool = False
    latest_fw_version: str | None = None
    latest_fw_file_id: str | None = None


class Firmware(Struct):
    """Where firmware is, and what proves that it is the one."""

    url: str
    version: str
    checksum: str


class Config(Struct):
    """What the owner wants."""

    version: int
    config: dict[str, Any]


class Order(Struct):
    """A command to run; without an id when there is none."""

    id: str = ""
    name: str = ""
    parameters: dict[str, Any] = {}


class Named(Struct):
    """What the device needs of what the gateway knows of it."""

    name: str


T = TypeVar("T")


class Device:
    """One device: its registration, what it measures, and the commands it knows."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        registration: Mapping[str, Any],
        measure: Callable[[], dict[str, Any]],
        *,
        memory: Memory,
        remember: Callable[[Memory], None],
        tell: Callable[[str], None],
        interval_s: float,
        counts: Counter[str],
        follow_hub_url: bool,
        license_key: str = "",
        happenings: Happenings | None = None,
    ) -> None:
        self.memory = memory
        self.commands: dict[str, Command] = {
            "ping": self._ping,
            "set_name": self._set_name,
            "report": self._report,
            "update_firmware": self._update_at_once,
        }
        self._http = http
        self._url = url
        self._registration = registration
        self._measure = measure
        self._remember = remember
        self._tell = tell
        self._interval_s = interval_s
        self._counts = counts
        self._follow_hub_url = follow_hub_url
        self._license_key = license_key
        self._happenings = happenings or Happenings()
        self._failures = 0
        self._report_from_s = 0.0
        self._update: tuple[str, Firmware, Download] | None = None
        """The firmware that is fetched: its file, what it is, how far it is."""
        memory.firmware_version = memory.firmware_version or registration["firmware_version"]
        if memory.url != url:  # its user sent it elsewhere since
            memory.url, memory.hub_url = url, ""

    def __repr__(self) -> str:
        return f"<Device {self._registration.get('sn')} {self.memory.id or 'unregistered'}>"

    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop` is set."""
        wait_s = 0.0
        while not await stopped(stop, wait_s):
            try:
                await self.step()
                self._failures = 0
                wait_s = self.memory.interval_s or self._interval_s
                continue
            except ForgottenError:
                self._tell("the gateway does not know these keys: registering again")
                self.memory = Memory(url=self._url, firmware_version=self.memory.firmware_version)
                self._remember(self.memory)
                wait_s = self._back_off_s()
            except LaterError as error:
                self._counts["refused" if error.status else "unreachable"] += 1
                spread_s = random.uniform(0, 1 + error.after_s / 4)  # noqa: S311
                wait_s = error.after_s + spread_s if error.after_s else self._back_off_s()
                self._tell(f"{error}: trying again in {wait_s:.0f} s")
            self._failures += 1

    def _back_off_s(self) -> float:
        return random.uniform(0, min(BACK_OFF_S[0] * 2 ** min(self._failures, 16), BACK_OFF_S[1]))  # noqa: S311

    async def step(self) -> None:
        """Send what was measured, and do what the answer says. Raises ForgottenError, LaterError."""
        if not self.memory.id:
            await self._register()
        message = {"status": "online", "telemetries": self._measure()}
        waiting = await self._call("POST", "/telemetry", message, Waiting)
        self._counts["accepted"] += 1
        await self._tell_happenings()
        if waiting.config_version > self.memory.config_version:
            await self._apply_config()
        if waiting.command:
            await self._run_commands()
        if over := ended(self.memory.licenses, datetime.now(UTC)):
            self._tell(f"licenses at their end: {', '.join(over)}")
            self._remember(self.memory)
        if waiting.new_licenses:
            await self._take_licenses()
        if waiting.info_version > self.memory.info_version:
            self.memory.name = (await self._call("GET", "", None, Named)).name
            self.memory.info_version = waiting.info_version
            self._remember(self.memory)
        if waiting.space_data_version > self.memory.space_data_version:
            await self._call("GET", "/space")
            self.memory.space_data_version = self.memory.owed["space_version"] = waiting.space_data_version
            self._remember(self.memory)
        if waiting.latest_fw_version not in (None, self.memory.firmware_version):
            await self._fetch_firmware(str(waiting.latest_fw_file_id))
        else:
            self._update = None
        if self.memory.owed:
            await self._report_applied()

    async def _register(self) -> None:
        version = self.memory.firmware_version
        registration = {**self._registration, "firmware_version": version}
        answer = await send(
            self._http, "POST", f"{self._url}/v1/devices", self.memory.access_key, registration, Registered
        )
        hub_url = answer.hub_url.rstrip("/") if self._follow_hub_url else ""
        self.memory = Memory(
            url=self._url, id=answer.id, access_key=answer.access_key, hub_url=hub_url, firmware_version=version
        )
        self._remember(self.memory)
        self._counts["registered"] += 1

    async def _apply_config(self) -> None:
        answer = await self._call("GET", "/config", None, Config)
        interval_s = answer.config.get("interval_s", 0)
        if isinstance(interval_s, int | float) and CONFIG_INTERVAL_S[0] <= interval_s <= CONFIG_INTERVAL_S[1]:
            self.memory.interval_s = float(interval_s)
        self.memory.config_version = self.memory.owed["config_version"] = answer.version
        self._remember(self.memory)

    async def _fetch_firmware(self, file_id: str) -> None:
        """The next piece of the firmware that is offered; installed with the last one."""
        try:
            if self._update is None or self._update[0] != file_id:
                found = await self._call("GET", f"/files/{file_id}", None, Firmware)
                key = {"authorization": self.memory.access_key}
                self._update = file_id, found, Download(found.url, found.checksum, key)
            _, firmware, download = self._update
            if await download.piece(self._http):
                self._install(firmware.version)
        except (RefusedError, CorruptError) as error:
            self._counts["pieces of firmware lost"] += 1
            self._tell(f"{error}: trying again with the next message")

    async def _update_at_once(self, parameters: dict[str, Any]) -> str:
        try:
            firmware = msgspec.convert(parameters, Firmware)
        except msgspec.ValidationError as error:
            raise CommandFailedError(f"This is no firmware: {error}") from None
        download = Download(firmware.url, firmware.checksum, {})
        failures = 0
        while failures < DOWNLOAD_TRIES:
            try:
                if await download.piece(self._http):
                    self._install(firmware.version)
                    return f"Firmware {firmware.version} is installed"
            except RefusedError as error:
                if error.status in GONE:
                    raise CommandFailedError(str(error)) from None
                failures += 1
                await asyncio.sleep(self._back_off_s())
            except CorruptError as error:
                raise CommandFailedError(str(error)) from None
        raise CommandFailedError(f"The download was cut off {DOWNLOAD_TRIES} times")

    def _install(self, version: str) -> None:
        """Pretend to: what counts is that the device reports the version from now on."""
        self._update = None
        self.memory.firmware_version = self.memory.owed["firmware_version"] = version
        self._remember(self.memory)
        self._counts["firmware installed"] += 1

    async def _report_applied(self) -> None:
        """PUT what was applied. It may be put ten times an hour only: one call for all, and telemetry goes on."""
        if time.monotonic() < self._report_from_s:
            return
        try:
            await self._call("PUT", "", self.memory.owed)
        except LaterError as error:
            if error.status != 429:
                raise
            self._report_from_s = time.monotonic() + (error.after_s or REPORT_AGAIN_S)
            return
        self.memory.owed = {}
        self._remember(self.memory)

    async def _run_commands(self) -> None:
        while (order := await self._call("GET", "/command", None, Order)).id:
            await self._call("POST", "/command", {"id": order.id, "status": "in_progress"})
            try:
                run = self.commands.get(order.name)
                if run is None:
                    raise CommandFailedError(f"This device does not know the command {order.name}")
                status, message = "done", await run(order.parameters)
            except CommandFailedError as error:
                status, message = "failed", str(error)
            await self._call("POST", "/command", {"id": order.id, "status": status, "message": message})
            self._counts[f"commands {status}"] += 1

    async def _take_licenses(self) -> None:
        while (offered := await self._call("GET", "/license", None, Offered)).id:
            report = applied(self.memory.licenses, offered, self._license_key)
            self._remember(self.memory)
            await self._call("POST", "/licenses", msgspec.structs.asdict(report))
            self._counts[f"licenses {report.state}"] += 1

    async def _tell_happenings(self) -> None:
        happenings = self._happenings
        if not happenings.began:
            await self._call("DELETE", "/incidents")
            happenings.began = True
        while happenings.events:
            await self._call("POST", "/events", happenings.events[0])
            happenings.events.popleft()
            self._counts["events"] += 1
        for issue in happenings.wrong.keys() - happenings.open.keys():
            body = {"issue": issue, "title": happenings.wrong[issue]}
            happenings.open[issue] = (await self._call("POST", "/incidents", body, Incident)).incident_id
            self._counts["incidents opened"] += 1
        for issue in happenings.open.keys() - happenings.wrong.keys():
            try:
                await self._call("DELETE", f"/incidents/{happenings.open[issue]}")
            except LaterError as error:
                if error.status != 404:  # a person closed it
                    raise
            del happenings.open[issue]
            self._counts["incidents closed"] += 1

    async def _ping(self, parameters: dict[str, Any]) -> str:
        return "pong"

    async def _set_name(self, parameters: dict[str, Any]) -> str:
        try:
            self.memory.name = (await self._call("PUT", "", {"name": parameters.get("name")}, Named)).name
        except LaterError as error:
            if not error.status:
                raise
            raise CommandFailedError(str(error)) from None
        self._remember(self.memory)
        return f"It is called {self.memory.name} now"

    async def _report(self, parameters: dict[str, Any]) -> str:
        return msgspec.json.encode(self._measure()).decode()

    async def _call(self, method: str, path: str, body: Any = None, answer: type[T] = dict) -> T:  # type: ignore[assignment]
        # A hub that does not answer may have moved: every other try goes to where the device registered.
        hub = self.memory.hub_url if self._failures % 2 == 0 else ""
        url = f"{hub or self._url}/v1/devices/{self.memory.id}{path}"
        return await send(self._http, method, url, self.memory.access_key, body, answer)
