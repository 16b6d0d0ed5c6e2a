"""Edges that are killed while files come in and go out, are released, and while devices tell what is wrong."""

import asyncio
import hashlib
import io
import os
import signal
from collections.abc import Awaitable
from pathlib import Path

import aiohttp
import pytest

from tests.faults.stack import RECOVERY_S, Process, Stack

DATA = os.urandom(8 * 2**20)
SUM = hashlib.sha256(DATA).hexdigest()
FILES = "/core/v1/organization/files"


def stored(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_an_edge_killed_in_mid_upload_and_mid_download_leaves_nothing_and_is_resumed(
    stack: Stack, tmp_path: Path
) -> None:
    """Half an upload is gone with the next start, the second try is clean; a download goes on where it was cut off."""
    folder = tmp_path / "files"
    edge = await stack.edge(FLEETGATE_FILE_STORE=str(folder))
    headers = {"authorization": stack.organization_key}
    port = int(stack.url.rpartition(":")[2])
    async with aiohttp.ClientSession(stack.url, headers=headers) as http, asyncio.timeout(2 * RECOVERY_S):
        made: dict[str, str] = {}
        while "id" not in made:  # Postgres has just been started
            async with http.post(FILES, json={"name": "F", "file_type": "data"}) as answer:
                assert answer.status in (201, 503)
                made = await answer.json()
        file_id = made["id"]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"PUT {FILES}/{file_id}/content HTTP/1.1\r\nHost: x\r\nAuthorization: {stack.organization_key}\r\n"
        writer.write(f"{head}Content-Length: {len(DATA)}\r\n\r\n".encode() + DATA[: 2**20])
        await writer.drain()
        while not stored(folder):
            await asyncio.sleep(0.002)
        await edge.kill()
        writer.close()
        assert [name.partition("/")[0] for name in stored(folder)] == ["incoming"]
        edge = await stack.edge(FLEETGATE_FILE_STORE=str(folder))
        assert stored(folder) == []
        async with http.put(f"{FILES}/{file_id}/content", data=io.BytesIO(DATA)) as answer:
            assert (answer.status, (await answer.json())["checksum"]) == (200, SUM)
        async with http.get(f"{FILES}/{file_id}/content") as answer:
            tag, got = answer.headers["etag"], await answer.content.read(100_000)
            await edge.kill()
        edge = await stack.edge(FLEETGATE_FILE_STORE=str(folder))
        again = {"range": f"bytes={len(got)}-", "if-range": tag}
        async with http.get(f"{FILES}/{file_id}/content", headers=again) as answer:
            assert answer.status == 206
            got += await answer.read()
    assert hashlib.sha256(got).hexdigest() == SUM
    assert stored(folder) == [SUM]
    edge.signal(signal.SIGTERM)
    assert await edge.ended() == 0


def dies_after(module: str, name: str) -> str:
    """What an edge runs before it begins: it is killed when this function has done its work, before the commit."""
    return f"""
import importlib, os, signal
module = importlib.import_module({module!r})
act = getattr(module, {name!r})

async def dying(*given, **named):
    await act(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, {name!r}, dying)
"""


async def test_an_edge_killed_before_a_commit_has_done_nothing_and_the_next_try_is_clean(
    stack: Stack, tmp_path: Path
) -> None:
    """In upload, in release, in the opening of an incident, in a dump: each edge does what the one before died of."""
    folder = tmp_path / "files"
    device_id = stack.devices[0]
    key, device = stack.access_key(device_id), f"/v1/devices/{device_id}"
    model_id = str(await stack.query("SELECT id FROM device_models"))
    new = {"name": "F", "file_type": "firmware", "version": "2.0.0", "model_id": model_id}
    incident = {"title": "Leak", "issue": "leak"}

    async def edge_that_dies(module: str, name: str) -> Process:
        return await stack.edge(dies_after(module, name), FLEETGATE_FILE_STORE=str(folder))

    async def put(path: str, data: bytes, key: str) -> int:
        async with (
            aiohttp.ClientSession(stack.url, headers={"authorization": key}) as http,
            http.request("POST" if "dumps" in path else "PUT", path, data=data) as answer,
        ):
            return answer.status

    async def killed(edge: Process, call: Awaitable[object]) -> None:
        with pytest.raises(aiohttp.ClientError):
            await call
        assert await edge.ended() == -signal.SIGKILL

    edge = await edge_that_dies("gateway.stores.files.uploads", "fill")
    async with asyncio.timeout(RECOVERY_S):
        while (made := await stack.call("POST", FILES, new))[0] == 503:  # Postgres has just been started
            await asyncio.sleep(0.05)
    file = f"{FILES}/{made[1]['id']}"
    await killed(edge, put(f"{file}/content", b"firmware", stack.organization_key))
    edge = await edge_that_dies("schemas.firmware", "begin_sweep")
    assert (await stack.call("GET", file))[1]["checksum"] is None
    assert await put(f"{file}/content", b"firmware", stack.organization_key) == 200
    assert stored(folder) == [hashlib.sha256(b"firmware").hexdigest()]
    await killed(edge, stack.call("POST", f"{file}/release"))
    edge = await edge_that_dies("schemas.incidents", "open_each")
    assert (await stack.call("GET", file))[1]["status"] == "draft"
    assert await stack.query("SELECT count(*) FROM firmware_sweeps") == 0
    assert (await stack.call("POST", f"{file}/release"))[1]["status"] == "released"
    assert await stack.query("SELECT count(*) FROM firmware_sweeps") == 1
    await killed(edge, stack.call("POST", f"{device}/incidents", incident, key))
    edge = await edge_that_dies("gateway.stores.files.dumps", "add")
    assert (await stack.call("GET", f"{device}/incidents", None, key))[1] == []
    assert await stack.query("SELECT count(*) FROM event_outbox WHERE type = 'incidentOpened'") == 0
    opened = [(await stack.call("POST", f"{device}/incidents", incident, key))[1] for _ in range(2)]
    assert opened[0] == opened[1]
    assert await stack.query("SELECT count(*) FROM event_outbox WHERE type = 'incidentOpened'") == 1
    await killed(edge, put(f"{device}/dumps/a%2Fb/log", b"dump", key))
    await stack.edge(FLEETGATE_FILE_STORE=str(folder))
    assert await stack.query("SELECT count(*) FROM dumps") == 0
    assert await put(f"{device}/dumps/a%2Fb/log", b"dump", key) == 201
    assert await stack.query("SELECT count(*) FROM dumps") == 1
