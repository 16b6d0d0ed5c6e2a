"""One file of the largest size that a setting allows by default, in and out of one edge: what memory it takes of it.

The file is of zeros, which nothing compresses on the way: the edge hashes and stores every one of them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar
from uuid import UUID

import aiohttp
import psutil

from bench.results import Report
from bench.rig import Rig, open_shards, until_ready
from gateway.stores.accounts import credentials
from schemas import postgres

FILE_BYTES = 2 * 2**30
PIECE_BYTES = 2**20
SMALLER = 32
"""In a moment's run the file is that much smaller."""
LOOK_S = 0.02
MEBIBYTES_MAX = 100

T = TypeVar("T")


async def run(rig: Rig, report: Report, *, seconds: float) -> None:
    """Bytes a second in and out, and the most that the edge's memory was above what it had before."""
    size = FILE_BYTES if seconds > 1 else FILE_BYTES // SMALLER
    valkey = rig.valkey("everysec")
    await open_shards(valkey)
    edge, process = rig.edge(valkey, FLEETGATE_FILE_STORE=str(rig.folder / "large"))
    await until_ready(edge)
    headers = {"authorization": await _partner_key(rig)}
    watched = _Memory(process.pid)
    async with aiohttp.ClientSession(edge, headers=headers, timeout=aiohttp.ClientTimeout(None)) as http:
        body = {"model_id": str(rig.model_id), "name": "image", "file_type": "data"}
        async with http.post("/core/v1/partner/files", json=body) as answer:
            assert answer.status == 201, await answer.text()
            content = f"/core/v1/partner/files/{(await answer.json())['id']}/content"
        for way, moving in (("in", _put(http, content, size)), ("out", _get(http, content, size))):
            took_s = await watched.during(moving)
            report.add("download", f"a file of {size / 2**30:g} GiB {way}", f"{size / took_s / 1e6:,.0f} MB/s")
    report.ratio("large_file_mebibytes", watched.grown / 2**20, at_most=MEBIBYTES_MAX)


class _Memory:
    """Looks at the memory of a process while something goes on."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = self._now()
        self.grown = 0

    async def during(self, moving: Awaitable[T]) -> T:
        doing = asyncio.ensure_future(moving)
        while not doing.done():
            self.grown = max(self.grown, self._now() - self._before)
            await asyncio.wait([doing], timeout=LOOK_S)
        return doing.result()

    def _now(self) -> int:
        return int(self._process.memory_info().rss)


async def _put(http: aiohttp.ClientSession, path: str, size: int) -> float:
    began = asyncio.get_running_loop().time()
    async with http.put(path, data=_zeros(size), headers={"content-length": str(size)}) as answer:
        assert answer.status == 200, await answer.text()
    return asyncio.get_running_loop().time() - began


async def _get(http: aiohttp.ClientSession, path: str, size: int) -> float:
    began, got = asyncio.get_running_loop().time(), 0
    async with http.get(path) as answer:
        assert answer.status == 200, await answer.text()
        while piece := await answer.content.readany():
            got += len(piece)
    assert got == size
    return asyncio.get_running_loop().time() - began


async def _zeros(size: int) -> AsyncIterator[bytes]:
    piece = bytes(PIECE_BYTES)
    for _ in range(size // PIECE_BYTES):
        yield piece


async def _partner_key(rig: Rig) -> str:
    connection = await postgres.connect(rig.postgres.dsn(), "bench")
    vendor: UUID = await connection.fetchval("SELECT organization_id FROM device_models WHERE id = $1", rig.model_id)
    key = await credentials.mint_and_store(connection, "partner", owner_id=vendor, name="bench")
    await connection.close()
    return key.text
