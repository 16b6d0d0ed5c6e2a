"""The device's side of the protocol, as small as it can be and still follow all of it.

    register once, keep id and access key
    every interval: POST telemetry, look at the answer:
        401                        forget the keys, register again
        config_version grew        GET config, apply it, PUT device {config_version}
        command                    GET command, POST in_progress, run it, POST done or failed; again until there is none
        info_version grew          GET device: the owner may have renamed it
        space_data_version grew    GET space, PUT device {space_version}
    429, 503                       come back after Retry-After
    anything else                  come back later, with full jitter

`fleetgate agent` makes the machine it runs on such a device; `fleetgate fleet` simulates many.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

TIMEOUT_S = 15
BACK_OFF_S = (1.0, 900.0)
INTERVAL_S = (1.0, 86_400.0)

Command = Callable[[dict[str, Any]], Awaitable[str]]
"""Runs a command with its parameters; returns a message for the owner, raises CommandFailedError with one."""


class CommandFailedError(Exception):
    """A command could not be done; the text goes to the owner."""


class ForgottenError(Exception):
    """The gateway does not know these keys (any more)."""


class LaterError(Exception):
    """The gateway refuses for now, or for good; `after_s` is what it asked for, None when it did not."""

    def __init__(self, text: str, after_s: float | None) -> None:
        super().__init__(text)
        self.after_s = after_s


class Memory(Struct):
    """What a device must not forget when it restarts."""

    id: str = ""
    access_key: str = ""
    config_version: int = 0
    info_version: int = 0
    space_data_version: int = 0
    interval_s: float = 0.0
    name: str = ""


class Device:
    """One device: its registration, what it measures, and the commands it knows."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        registration: Mapping[str, Any],
        measure: Callable[[], dict[str, Any]],
        *,
        memory: Memory,
        remember: Callable[[Memory], None],
        interval_s: float,
        counts: Counter[str],
    ) -> None:
        self.memory = memory
        self.commands: dict[str, Command] = {"ping": self._ping, "set_name": self._set_name, "report": self._report}
        self._http = http
        self._registration = registration
        self._measure = measure
        self._remember = remember
        self._interval_s = interval_s
        self._counts = counts

    def __repr__(self) -> str:
        return f"<Device {self._registration.get('sn')} {self.memory.id or 'unregistered'}>"

    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop` is set."""
        failures = 0
        while not stop.is_set():
            wait_s = self.memory.interval_s or self._interval_s
            try:
                await self.step()
                failures = 0
            except ForgottenError:
                self.memory = Memory()
                self._remember(self.memory)
                wait_s = random.uniform(0, 1)  # noqa: S311
            except (LaterError, aiohttp.ClientError, TimeoutError) as error:
                self._counts["refused" if isinstance(error, LaterError) else "unreachable"] += 1
                limit_s = min(BACK_OFF_S[0] * 2**failures, BACK_OFF_S[1])
                asked_s = error.after_s if isinstance(error, LaterError) else None
                wait_s = (asked_s or 0) + random.uniform(0, limit_s)  # noqa: S311
                failures = min(failures + 1, 16)
            try:
                await asyncio.wait_for(stop.wait(), wait_s)
            except TimeoutError:
                continue

    async def step(self) -> None:
        """Send what was measured, and do what the answer says."""
        if not self.memory.id:
            await self._register()
        message = {"status": "online", "telemetries": self._measure()}
        waits = await self._call("POST", "/telemetry", message)
        self._counts["accepted"] += 1
        if waits["config_version"] > self.memory.config_version:
            await self._apply_config()
        if waits["command"]:
            await self._run_commands()
        if waits["info_version"] > self.memory.info_version:
            self.memory.name = (await self._call("GET", ""))["name"]
            self.memory.info_version = waits["info_version"]
            self._remember(self.memory)
        if waits["space_data_version"] > self.memory.space_data_version:
            await self._call("GET", "/space")
            self.memory.space_data_version = waits["space_data_version"]
            await self._call("PUT", "", {"space_version": self.memory.space_data_version})
            self._remember(self.memory)

    async def _register(self) -> None:
        answer = await self._send("POST", "/v1/devices", self._registration, "")
        self.memory = Memory(id=answer["id"], access_key=answer["access_key"])
        self._remember(self.memory)
        self._counts["registered"] += 1

    async def _apply_config(self) -> None:
        answer = await self._call("GET", "/config")
        interval_s = answer["config"].get("interval_s", 0)
        if isinstance(interval_s, int | float) and INTERVAL_S[0] <= interval_s <= INTERVAL_S[1]:
            self.memory.interval_s = float(interval_s)
        self.memory.config_version = answer["version"]
        await self._call("PUT", "", {"config_version": answer["version"]})
        self._remember(self.memory)

    async def _run_commands(self) -> None:
        while command := await self._call("GET", "/command"):
            await self._call("POST", "/command", {"id": command["id"], "status": "in_progress"})
            try:
                run = self.commands.get(command["name"])
                if run is None:
                    raise CommandFailedError(f"This device does not know the command {command['name']}")
                status, message = "done", await run(command["parameters"])
            except CommandFailedError as error:
                status, message = "failed", str(error)
            await self._call("POST", "/command", {"id": command["id"], "status": status, "message": message})
            self._counts[f"commands {status}"] += 1

    async def _ping(self, parameters: dict[str, Any]) -> str:
        return "pong"

    async def _set_name(self, parameters: dict[str, Any]) -> str:
        name = parameters.get("name")
        if not isinstance(name, str):
            raise CommandFailedError("The parameter name is missing")
        self.memory.name = (await self._call("PUT", "", {"name": name}))["name"]
        self._remember(self.memory)
        return f"It is called {self.memory.name} now"

    async def _report(self, parameters: dict[str, Any]) -> str:
        return msgspec.json.encode(self._measure()).decode()

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        return await self._send(method, f"/v1/devices/{self.memory.id}{path}", body, self.memory.access_key)

    async def _send(self, method: str, path: str, body: Any, key: str) -> Any:
        headers = {"authorization": key} if key else {}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with self._http.request(method, path, json=body, headers=headers, timeout=timeout) as answer:
            if answer.status == 401:
                raise ForgottenError
            if answer.status >= 400:
                after = answer.headers.get("retry-after", "")
                raise LaterError(f"{answer.status} {await answer.text()}", float(after) if after.isdigit() else None)
            return await answer.json()


def write_secret(path: Path, value: Any) -> None:
    """Replace a file by this JSON, readable by its owner only, whole or not at all."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    os.replace(draft, path)
