"""Files going out of one edge process on one core, beside nginx that serves the same file; and what telemetry loses.

nginx sends by `sendfile` and thinks nothing; where there is none, ours stands alone. What the edge's memory grows by is
read while all its connections take the file. The loss of telemetry is measured in turn: messages a second without
downloads, with clients that take files of the edge as fast as they are given them, and with the same clients at an
nginx on the edge's core. Devices are so many that none of them calls too often.
"""

import asyncio
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from uuid import UUID

import psutil

from bench import load, peers
from bench.results import Report
from bench.rig import REST, Rig, open_shards, pinned, until_ready
from schemas import ids, postgres

FILE_BYTES = 256 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
CONNECTIONS = 4
STARTING_S = 0.5
"""What it takes until clients are there."""
SMALLER = 8
"""In a moment's run the file is that much smaller."""


async def run(rig: Rig, report: Report, *, rounds: int, seconds: float) -> None:
    """Bytes a second of both, memory, and messages a second with and without downloads."""
    store = rig.folder / "files"
    store.mkdir()
    name, size = _write(store, FILE_BYTES if seconds > 1 else FILE_BYTES // SMALLER)
    device_id = rig.device_ids[0]
    file_id = await _released(rig, name, size)
    valkey = rig.valkey("everysec")
    await open_shards(valkey)
    edge, process = rig.edge(valkey, FLEETGATE_FILE_STORE=str(store))
    await until_ready(edge)
    targets = {"ours": (f"{edge}/v1/devices/{device_id}/files/{file_id}/content", rig.key(device_id))}
    if url := peers.nginx(rig, store):
        targets["nginx, sendfile"] = (f"{url}{name}", "")
    rates: dict[str, list[float]] = {}
    before, most = _memory(process.pid), 0
    for _ in range(rounds):
        for target, (url, key) in targets.items():
            async with _taking(url, key) as taking:
                ends_at = time.monotonic() + seconds + STARTING_S
                while time.monotonic() < ends_at:
                    most = max(most, _memory(process.pid))
                    await asyncio.sleep(0.05)
                rates.setdefault(target, []).append(taking.rate(seconds))
    for target, found in rates.items():
        shown = f"{median(found) / 1e6:,.0f} MB/s"
        report.add("download", f"{target}, {CONNECTIONS} connections", shown, rate=median(found), rates=found)
    if "nginx, sendfile" in rates:
        report.ratio("download_vs_nginx", median(rates["ours"]) / median(rates["nginx, sendfile"]), at_least=0.5)
    grown = (most - before) / 2**20
    report.add("download", "memory that the edge grew by", f"{grown:,.0f} MiB", mebibytes=grown)
    await _beside_telemetry(rig, report, edge, targets, rounds=rounds, seconds=seconds)


async def _beside_telemetry(
    rig: Rig, report: Report, edge: str, targets: dict[str, tuple[str, str]], *, rounds: int, seconds: float
) -> None:
    devices = rig.folder / "devices.txt"
    alone: list[float] = []
    beside: dict[str, list[float]] = {target: [] for target in targets}
    taken: dict[str, list[float]] = {target: [] for target in targets}
    for _ in range(rounds):
        found = await load.closed(edge, devices, connections=64, seconds=seconds)
        alone.append(found.rate)
        for target, (url, key) in targets.items():
            async with _taking(url, key) as taking:
                found = await load.closed(edge, devices, connections=64, seconds=seconds)
                taken[target].append(taking.rate(seconds))
            beside[target].append(found.rate)
    report.add("download", "telemetry alone", f"{median(alone):,.0f}/s", rates=alone)
    for target, found_rates in beside.items():
        shown = f"{median(found_rates):,.0f}/s, {median(taken[target]) / 1e6:,.0f} MB/s"
        report.add("download", f"telemetry beside downloads: {target}", shown, rates=found_rates, taken=taken[target])
    ratios = {target: median(found_rates) / median(alone) for target, found_rates in beside.items()}
    report.ratio("telemetry_beside_downloads", ratios["ours"], at_least=0.9)
    if "nginx, sendfile" in ratios:
        report.ratio("telemetry_beside_downloads_of_nginx", ratios["nginx, sendfile"])


class _Taking:
    """Clients that take a file again and again, and what they have told of it."""

    def __init__(self) -> None:
        self._told: list[tuple[float, float]] = []

    async def follow(self, output: asyncio.StreamReader) -> None:
        async for line in output:
            at, taken = line.split()
            self._told.append((float(at), float(taken)))

    def rate(self, seconds: float) -> float:
        """Bytes a second, of the last so many seconds."""
        now = time.monotonic()
        first, last = next(one for one in self._told if one[0] >= now - seconds), self._told[-1]
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else 0.0


@asynccontextmanager
async def _taking(url: str, key: str) -> AsyncIterator[_Taking]:
    words = [sys.executable, "-m", "bench.taker", str(CONNECTIONS), url, key]
    process = await asyncio.create_subprocess_exec(*pinned(REST, *words), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    taking = _Taking()
    following = asyncio.create_task(taking.follow(process.stdout))
    try:
        yield taking
        assert process.returncode is None, "a connection of the clients failed"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        await following


def _write(store: Path, size: int) -> tuple[str, int]:
    """A file of random bytes under its SHA-256."""
    hashed = hashlib.sha256()
    with (store / "new").open("wb") as file:
        for _ in range(size // PIECE_BYTES):
            piece = os.urandom(PIECE_BYTES)
            hashed.update(piece)
            file.write(piece)
    (store / "new").rename(store / hashed.hexdigest())
    return hashed.hexdigest(), size


async def _released(rig: Rig, checksum: str, size: int) -> UUID:
    connection = await postgres.connect(rig.postgres.dsn(), "bench")
    file_id = ids.new_id()
    await connection.execute(
        """INSERT INTO files (id, model_id, for_model_id, name, file_type, checksum, size, status)
           VALUES ($1, $2, $2, 'file', 'data', $3, $4, 'released')""",
        file_id,
        rig.model_id,
        checksum,
        size,
    )
    await connection.close()
    return file_id


def _memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)
