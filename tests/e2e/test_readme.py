"""What the README tells people to type works as it stands."""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path

import aiohttp

from tests.e2e.stack import Up


async def test_the_quick_start_runs_line_by_line(demo: Up, repository: Path) -> None:
    """Every curl succeeds, the device hears of config and command, and the owner sees what it sent."""
    readme = (repository / "README.md").read_text()
    found = re.search(r"<!-- quickstart -->\n```bash\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    update = re.search(r"<!-- firmware -->\n```bash\n(.*?)```", readme, re.DOTALL)
    assert update is not None
    script = "set -e\n" + re.sub(r"curl -sS", "curl -sS -f -w '\\\\n'", found[1])
    # What a person takes to read on is enough for the message to be stored; a script is faster.
    seen = 'curl -s -H "$OWNER" $URL/core/v1/organization/devices/$ID | grep -q door_open'
    wait = f"for n in $(seq 100); do {seen} && break; sleep 0.1; done\n"
    script = script.replace("# The owner sees its state", wait + "# The owner sees its state")
    # Likewise, to release it: within seconds a worker has told the devices.
    offered = "curl -s -X POST -H \"$KEY\" $URL/v1/devices/$ID/telemetry -d '{}' | grep -q 1.1.0"
    offered = offered.replace("'{}'", '\'{"status": "online"}\'')
    wait = f"for n in $(seq 100); do {offered} && break; sleep 0.1; done\n"
    script += re.sub(r"curl -sS", "curl -sS -f -w '\\\\n'", update[1].replace("NEW=$(", wait + "NEW=$("))
    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", script, env=demo.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complained = await shell.communicate()
    assert shell.returncode == 0, complained.decode()
    answers = [json.loads(line) for line in said.decode().splitlines() if line.startswith("{")]
    first, second = [answer for answer in answers if "new_licenses" in answer]
    assert ".new: OK" in said.decode()
    assert answers[-1]["firmware_version"] == "1.1.0"
    assert (first["command"], second["command"], second["config_version"]) == (False, True, 1)
    device = [answer for answer in answers if "effective_status" in answer][-1]
    assert (device["state"]["temperature"], device["effective_status"]) == (21.5, "ok")
    history = [answer for answer in answers if "items" in answer][-1]["items"]
    assert [item["telemetries"].get("temperature") for item in history if item["telemetries"]] == [21.5]


async def test_the_load_of_the_readme_plays_whole_lives_on_the_demo(demo: Up, repository: Path, tmp_path: Path) -> None:
    """`make load` as it stands, but shorter: in whichever folder the demo lives; without one it says what to do."""
    assert "`make load`" in (repository / "README.md").read_text()
    recipe = re.search(
        r"^load: .venv/dev .*\n\t\$\(BIN\)/(locust .*)$", (repository / "Makefile").read_text(), re.MULTILINE
    )
    assert recipe is not None
    words = recipe[1].replace("-u 50 -r 10 -t 30s", "-u 5 -r 5 -t 60s").split()

    async def playing(environment: dict[str, str]) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *words),
            cwd=repository,
            env=environment,
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT,
        )

    load = await playing(demo.environment)
    owner = {"authorization": demo.demo["organization_key"]}
    async with aiohttp.ClientSession(demo.url, headers=owner) as http, asyncio.timeout(60):
        told = 0
        while told < 5:
            assert load.returncode is None
            await asyncio.sleep(0.1)
            async with http.get("/core/v1/organization/devices", params={"per_page": 100}) as response:
                devices = (await response.json())["items"]
            told = len([d for d in devices if str(d["sn"]).startswith("locust-") and "cpu" in d["state"]])
    load.send_signal(signal.SIGINT)
    said, _ = await load.communicate()
    assert load.returncode == 0, said.decode()
    nowhere = await playing({**demo.environment, "FLEETGATE_HOME": str(tmp_path)})
    said, _ = await nowhere.communicate()
    assert (nowhere.returncode, b"start `fleetgate up --demo` first" in said) == (1, True), said.decode()
