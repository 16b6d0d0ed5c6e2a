"""Webhooks beside webhook servers of others: the same events over HTTP, each signed and sent to the same receiver.

    python -m bench.peers_webhooks                                       ours alone, and which peers there are
    python -m bench.peers_webhooks --peer NAME=/path/of/its/executable   in turns with a peer; may be repeated

Each side has one core for all its processes and stores; client and receiver, the same for all, have the other. What is
answered with 2xx counts as accepted; what the receiver got counts as delivered. Figures are medians of the rounds.
"""

import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from bench import peer_server, side_by_side
from bench.field import Field, field
from bench.results import Report
from bench.side_by_side import Arguments, Figures
from bench.sides import OURS, Side, accepted, ours, stores

KIND = "webhooks"
POLL_S = 0.2


async def run(given: Arguments, report: Report) -> None:
    """Ours and the peers in turns."""
    async with AsyncExitStack() as entered:
        folder = Path(entered.enter_context(tempfile.TemporaryDirectory(prefix="fleetgate-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as another user
        rig = await entered.enter_async_context(stores(folder / "ours", given.devices))
        made = await entered.enter_async_context(field(rig))
        await made.connector(rig.project_id, _path(OURS))
        sides = [await entered.enter_async_context(ours(rig, "flusher,dispatcher,upkeep", given.fsync))]
        for name, (description, executable) in given.peers.items():
            report.progress(f"starting {description.title}")
            started = peer_server.peer(
                name,
                description,
                executable,
                folder / name,
                fsync=given.fsync,
                devices=rig.device_ids,
                receiver=made.url + _path(name),
            )
            sides.append(await entered.enter_async_context(started))

        async def measure(side: Side, seconds: float) -> Figures:
            return await _measure(side, made, given._replace(seconds=seconds))

        await side_by_side.compare(sides, measure, given, report)


def _path(name: str) -> str:
    return f"/timed/{name}"


async def _measure(side: Side, made: Field, given: Arguments) -> Figures:
    """How old events arrive at a rate that leaves all sides time; then as many as are answered, until they arrived."""
    made.forget()
    paced = await side.load(made.rig.devices, connections=16, seconds=given.seconds, rate=given.rate)
    assert accepted(paced), f"{side.title}: {paced.statuses}"
    await _delivered(side, made, accepted(paced), given.drain_s)
    ages = made.seen().get(_path(side.name), {"p50_ms": float("nan"), "p99_ms": float("nan")})
    made.forget()
    before, began = side.used(), time.time()
    sent = await side.load(made.rig.devices, connections=given.connections, seconds=given.seconds)
    wanted = accepted(sent)
    delivered, last_at = await _delivered(side, made, wanted, given.drain_s)
    return Figures(
        {
            "accepted a second": sent.rate,
            "delivered a second": delivered / (last_at - began),
            "answer p50, ms": sent.p50_ms,
            "answer p99, ms": sent.p99_ms,
            f"at {given.rate:g} a second: arrival p50, ms": ages["p50_ms"],
            f"at {given.rate:g} a second: arrival p99, ms": ages["p99_ms"],
            "refused": float(sum(sent.statuses.values()) - wanted + sent.unanswered),
            "accepted, not delivered": float(wanted - delivered),
        },
        side.per_message(before, delivered),
    )


async def _delivered(side: Side, made: Field, wanted: int, drain_s: float) -> tuple[int, float]:
    """How many of the events arrived, and when the last one did."""
    count, last_at, quiet_since = 0, time.time(), time.monotonic()
    while count < wanted and time.monotonic() - quiet_since < drain_s:
        seen = made.seen().get(_path(side.name))
        if seen and seen["count"] != count:
            count, last_at, quiet_since = seen["count"], seen["last_at"], time.monotonic()
        await asyncio.sleep(POLL_S)
    return count, last_at


if __name__ == "__main__":
    sys.exit(side_by_side.main(__doc__, KIND, run))
