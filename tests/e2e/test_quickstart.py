"""The quickstart's programs do what the page promises: each registers, tells, and shows to its owner."""

import asyncio
import contextlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.developers import quickstart
from tests.e2e.stack import Up

ARDUINO = Path(__file__).parent / "arduino"
"""As much of the ESP32's Arduino core as the sketch calls, to see that it is that core's language; nothing runs."""


def command(language: str, folder: Path, program: str) -> list[str]:
    """What a reader would type."""
    name = quickstart.LANGUAGES[language][1]
    (folder / name).write_text(program)
    if language == "c":
        compiler = _there("gcc")
        subprocess.run(
            [compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", folder / "device", folder / name], check=True
        )
        return [str(folder / "device")]
    return [{"curl": _there("bash"), "python": sys.executable, "node": _there("node")}[language], str(folder / name)]


def _there(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"this machine has no {program}")
    return found


@contextlib.asynccontextmanager
async def running(words: list[str]) -> AsyncIterator[asyncio.StreamReader]:
    """The program; ended when enough was seen."""
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.communicate()


@pytest.mark.parametrize("language", quickstart.LANGUAGES)
async def test_a_reader_has_a_device_in_the_fleet_by_the_program_as_it_stands(
    demo: Up, tmp_path: Path, language: str
) -> None:
    """By what it prints it is claimed, and its owner sees what it told."""
    program = quickstart.snippet(language, demo.url, demo.demo["hardware_key"])
    owner = {"authorization": demo.demo["organization_key"]}
    async with asyncio.timeout(60), aiohttp.ClientSession(demo.url) as http:
        async with running(command(language, tmp_path, program)) as said:
            printed = re.search(r"serial number (\S+), MAC (\S+)", (await said.readline()).decode())
            assert printed is not None
            waits = (await said.readline()).decode()
            assert "success" in waits
        unit = {"space_id": demo.demo["space_id"], "sn": printed[1], "mac": printed[2]}
        async with http.post("/core/v1/organization/devices/claim", json=unit, headers=owner) as answer:
            assert answer.status == 200, await answer.text()
            claimed = (await answer.json())["id"]
        while True:
            async with http.get(f"/core/v1/organization/devices/{claimed}", headers=owner) as answer:
                device = await answer.json()
            if "temperature" in device["state"]:
                break
            await asyncio.sleep(0.1)
        assert 20 <= device["state"]["temperature"] <= 25


def test_the_program_in_c_is_a_sketch_for_the_arduino_core_too(tmp_path: Path) -> None:
    """It is compiled against declarations of what it calls of that core: no board is at hand to run it."""
    sketch = tmp_path / "quickstart.cpp"
    sketch.write_text(quickstart.snippet("c", "https://fleet.example", "key"))
    words = [_there("g++"), "-fsyntax-only", "-Wall", "-Werror", "-DARDUINO=10800", "-include", ARDUINO / "Arduino.h"]
    subprocess.run([*words, "-I", ARDUINO, sketch], check=True)


def test_whoever_has_no_key_yet_sees_where_it_goes() -> None:
    """And nothing is left unfilled."""
    for language in quickstart.LANGUAGES:
        shown = quickstart.snippet(language, "https://fleet.example")
        assert quickstart.YOUR_KEY in shown
        assert "https://fleet.example" in shown
        assert "@" not in re.sub(r"\S+@\S+\.\S+", "", shown)
