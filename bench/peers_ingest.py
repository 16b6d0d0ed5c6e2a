"""Telemetry beside device gateways of others: the same messages over HTTP, with a token, stored in the same PostgreSQL.

    python -m bench.peers_ingest                                       ours alone, and which peers there are
    python -m bench.peers_ingest --peer NAME=/path/of/its/executable   in turns with a peer; may be repeated

Each side has one core for all its processes and stores; the client, the same for all, has the other. What is answered
with 2xx counts as accepted; what stands in the side's PostgreSQL counts as stored. Figures are medians of the rounds.
"""

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from bench import peer_server, side_by_side
from bench.results import Report
from bench.side_by_side import Arguments, Figures
from bench.sides import Side, accepted, ours, stores

KIND = "ingest"
POLL_S = 0.5


async def run(given: Arguments, report: Report) -> None:
    """Ours and the peers in turns."""
    async with AsyncExitStack() as entered:
        folder = Path(entered.enter_context(tempfile.TemporaryDirectory(prefix="fleetgate-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as another user
        rig = await entered.enter_async_context(stores(folder / "ours", given.devices))
        sides = [await entered.enter_async_context(ours(rig, "flusher,upkeep", given.fsync))]
        for name, (description, executable) in given.peers.items():
            report.progress(f"starting {description.title}")
            started = peer_server.peer(
                name, description, executable, folder / name, fsync=given.fsync, devices=rig.device_ids, receiver=""
            )
            sides.append(await entered.enter_async_context(started))

        async def measure(side: Side, seconds: float) -> Figures:
            return await _measure(side, rig.devices, given._replace(seconds=seconds))

        await side_by_side.compare(sides, measure, given, report)


async def _measure(side: Side, devices: Path, given: Arguments) -> Figures:
    """As many messages as are answered for some seconds, and until they are stored."""
    already, before, began = await side.messages(), side.used(), time.perf_counter()
    sent = await side.load(devices, connections=given.connections, seconds=given.seconds)
    wanted = accepted(sent)
    assert wanted, f"{side.title}: {sent.statuses}"
    stored, took_s = await _stored(side, already, wanted, began, given.drain_s)
    return Figures(
        {
            "accepted a second": sent.rate,
            "stored a second": stored / took_s,
            "answer p50, ms": sent.p50_ms,
            "answer p99, ms": sent.p99_ms,
            "refused": float(sum(sent.statuses.values()) - wanted + sent.unanswered),
            "accepted, not stored": float(wanted - stored),
        },
        side.per_message(before, stored),
    )


async def _stored(side: Side, already: int, wanted: int, began: float, drain_s: float) -> tuple[int, float]:
    """How many of the messages arrived in the store, and how long after the beginning the last one that was seen."""
    stored, at = -1, began
    while (now := time.perf_counter()) - at < drain_s:
        found = await side.messages() - already
        if found != stored:
            stored, at = found, now
        if stored >= wanted:
            break
        await asyncio.sleep(POLL_S)
    return stored, at - began


if __name__ == "__main__":
    sys.exit(side_by_side.main(__doc__, KIND, run))
