"""Files going out of one edge process on one core, beside nginx that serves the same file; and what telemetry loses.

nginx sends by `sendfile` and thinks nothing; where there is none, ours stands alone. What the edge's memory grows by is
read while all its connections take the file. The loss of telemetry is measured in turn: messages a second without
downloads, and with clients that take files as fast as they are given them.
"""

import asyncio
import hashlib
import os
import sys
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
            taking = asyncio.create_task(_take(seconds, url, key))
            while not taking.done():
                most = max(most, _memory(process.pid))
                await asyncio.wait([taking], timeout=0.05)
            rates.setdefault(target, []).append(taking.result())
    for target, found in rates.items():
        shown = f"{median(found) / 1e6:,.0f} MB/s"
        report.add("download", f"{target}, {CONNECTIONS} connections", shown, rate=median(found), rates=found)
    if "nginx, sendfile" in rates:
        report.ratio("download_vs_nginx", median(rates["ours"]) / median(rates["nginx, sendfile"]), at_least=0.5)
    grown = (most - before) / 2**20
    report.add("download", "memory that the edge grew by", f"{grown:,.0f} MiB", mebibytes=grown)
    await _beside_telemetry(rig, report, edge, targets["ours"], rounds=rounds, seconds=seconds)


async def _beside_telemetry(
    rig: Rig, report: Report, edge: str, target: tuple[str, str], *, rounds: int, seconds: float
) -> None:
    devices = rig.folder / "devices.txt"
    alone, beside, taken = [], [], []
    for _ in range(rounds):
        found = await load.closed(edge, devices, connections=64, seconds=seconds)
        alone.append(found.rate)
        taking = asyncio.create_task(_take(seconds, *target))
        found = await load.closed(edge, devices, connections=64, seconds=seconds)
        beside.append(found.rate)
        taken.append(await taking)
    report.add("download", "telemetry alone", f"{median(alone):,.0f}/s", rates=alone)
    report.add("download", "telemetry beside downloads", f"{median(beside):,.0f}/s", rates=beside)
    report.add("download", "downloads beside telemetry", f"{median(taken) / 1e6:,.0f} MB/s", rates=taken)
    report.ratio("telemetry_beside_downloads", median(beside) / median(alone), at_least=0.9)


async def _take(seconds: float, url: str, key: str) -> float:
    words = [sys.executable, "-m", "bench.taker", str(seconds), str(CONNECTIONS), url, key]
    process = await asyncio.create_subprocess_exec(*pinned(REST, *words), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return float(output)


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
