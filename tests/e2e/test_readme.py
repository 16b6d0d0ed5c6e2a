"""What the README tells people to type works as it stands."""

import asyncio
import json
import re
from pathlib import Path

from tests.e2e.stack import Up


async def test_the_quick_start_runs_line_by_line(demo: Up, repository: Path) -> None:
    """Every curl succeeds, the device hears of config and command, and the owner sees what it sent."""
    readme = (repository / "README.md").read_text()
    found = re.search(r"<!-- quickstart -->\n```bash\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    script = "set -e\n" + re.sub(r"curl -sS", "curl -sS -f -w '\\\\n'", found[1])
    # What a person takes to read on is enough for the message to be stored; a script is faster.
    seen = 'curl -s -H "$OWNER" $URL/core/v1/organization/devices/$ID | grep -q door_open'
    wait = f"for n in $(seq 100); do {seen} && break; sleep 0.1; done\n"
    script = script.replace("# The owner sees its state", wait + "# The owner sees its state")
    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", script, env=demo.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complained = await shell.communicate()
    assert shell.returncode == 0, complained.decode()
    answers = [json.loads(line) for line in said.decode().splitlines() if line.startswith("{")]
    first, second = (answer for answer in answers if "new_licenses" in answer)
    assert (first["command"], second["command"], second["config_version"]) == (False, True, 1)
    device = [answer for answer in answers if "effective_status" in answer][-1]
    assert (device["state"]["temperature"], device["effective_status"]) == (21.5, "ok")
    history = answers[-1]["items"]
    assert [item["telemetries"].get("temperature") for item in history if item["telemetries"]] == [21.5]
