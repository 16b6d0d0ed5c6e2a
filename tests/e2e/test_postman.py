"""The Postman collection does what it shows: a stock client runs it from top to bottom against a running stack."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.stack import Up

NEWMAN = Path(sys.prefix) / "newman" / "node_modules" / "newman" / "bin" / "newman.js"


async def fetched(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200
        return await response.json()


@pytest.mark.skipif(
    not os.environ.get("CI") and not (NEWMAN.exists() and shutil.which("node")),
    reason="newman is not installed: `make test` does, where there is npm",
)
async def test_every_request_of_the_collection_is_answered_as_it_says(demo: Up, tmp_path: Path) -> None:
    """Every call of every API that ends, each by its own example; what a request makes, the ones after it find."""
    collection = await fetched(f"{demo.url}/docs/postman.json")
    environment = await fetched(f"{demo.url}/docs/postman_environment.json")
    account = demo.demo["service_account"]
    known = {f"account_{name}": value for name, value in account.items()} | demo.demo
    for value in environment["values"]:
        value["value"] = value["value"] or known[value["key"]]
    files = {"collection": collection, "environment": environment}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    command = ["node", str(NEWMAN), "run", tmp_path / "collection", "-e", tmp_path / "environment"]
    report = tmp_path / "report"
    newman = await asyncio.create_subprocess_exec(
        *command, "-r", "json", "--reporter-json-export", report, "--timeout-request", "20000"
    )
    await newman.wait()
    executions = json.loads(report.read_text())["run"]["executions"]
    failed = [
        (one["item"]["name"], one.get("response", {}).get("code"), fault)
        for one in executions
        for fault in [_fault(one)]
        if fault
    ]
    assert failed == []
    assert newman.returncode == 0
    requests = [item["name"] for folder in collection["item"] for item in folder["item"]]
    assert len(executions) >= len(requests)


def _fault(execution: dict[str, Any]) -> str:
    """What went wrong with a request; empty when nothing did."""
    if error := execution.get("requestError"):
        return str(error)
    wrong = [one["assertion"] for one in execution["assertions"] if "error" in one]
    wrong += [one["error"]["message"] for one in execution.get("testScript", []) if "error" in one]
    said = bytes(execution["response"]["stream"]["data"])[:300].decode()
    return f"{wrong}: {said}" if wrong else ""
