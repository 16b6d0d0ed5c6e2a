"""Edges that are killed while files come in and go out."""

import asyncio
import hashlib
import io
import os
import signal
from pathlib import Path

import aiohttp

from tests.faults.stack import RECOVERY_S, Stack

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
