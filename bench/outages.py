"""Webhooks whose receivers go away under load and come back: how soon each has all it was owed, what came twice.

Every receiver goes through outages of its own, of random kinds and lengths, while events of all go on to happen. An
outage is over for us when all that was owed at the return has arrived; that it takes a bounded time is the promise.
"""

import asyncio
import random
from collections import Counter
from statistics import median
from typing import NamedTuple, cast
from uuid import UUID

from bench.field import Field, field, worker
from bench.results import Report
from bench.rig import UNDER_TEST, Rig
from gateway.cli.local.embedded import free_port

RECEIVERS = 16
RATE = 160
"""Events a second, of all."""
LATENCY_S = 0.2
DRAINED_S = 260.0
"""A minute until a dead receiver is looked at again, a minute until the last of those that failed is tried again, and
what the backlog takes."""
BUCKETS_S = (10, 60, 601)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
_MARK = b'"eventId":"'


class Outage(NamedTuple):
    """One round of one receiver."""

    kind: str
    length_s: float
    owed: int
    drained_s: float


class Receiver:
    """A receiver on a port of its own, and what it is owed."""

    def __init__(self) -> None:
        self.port = free_port()
        self.owed: set[str] = set()
        self.taken: Counter[str] = Counter()
        self.outages: list[Outage] = []
        self.kind = ""
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    def happened(self, event_id: str) -> None:
        self.owed.add(event_id)

    def take(self, event_id: str) -> None:
        self.taken[event_id] += 1
        self.owed.discard(event_id)

    async def begin(self, kind: str = "") -> None:
        """Serve, or be away in one of the ways: `refuses`, `resets`, `hangs`, `proxy` (502)."""
        self.kind = kind
        if kind != "refuses" and self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024)
        if kind == "refuses":
            self.close()
        for connection in [] if kind == "proxy" else list(self.connections):
            connection.abort()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def go_through(self, chance: random.Random, longest_s: float) -> None:
        """Serve for a while, be away for a while, and come back; then wait until nothing is owed of what was."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(chance.uniform(0.1, 10) * min(1.0, longest_s / 10))
        kind, length_s = chance.choice(["refuses", "resets", "hangs", "proxy"]), longest_s ** chance.random()
        await self.begin(kind)
        await asyncio.sleep(length_s)
        owed = set(self.owed)
        await self.begin()
        back_at = loop.time()
        while owed & self.owed and loop.time() - back_at < 2 * DRAINED_S:
            await asyncio.sleep(0.1)
        self.outages.append(Outage(kind, length_s, len(owed), loop.time() - back_at))


class _Connection(asyncio.Protocol):
    """HTTP as far as our client speaks it."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._receiver.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.partition(b"ontent-Length: ")[2].partition(b"\r")[0]):
            return
        self._buffer = b""
        at = body.index(_MARK) + len(_MARK)
        match self._receiver.kind:
            case "":
                event_id = body[at : body.index(b'"', at)].decode()
                asyncio.get_running_loop().call_later(LATENCY_S, self._acknowledge, event_id)
            case "proxy":
                self._transport.write(_BAD_GATEWAY)
            case "resets":
                self.abort()

    def _acknowledge(self, event_id: str) -> None:
        if not self._transport.is_closing():
            self._receiver.take(event_id)
            self._transport.write(_OK)

    def abort(self) -> None:
        self._transport.abort()


async def run(rig: Rig, report: Report, *, rounds: int, longest_s: float) -> None:
    """Each receiver goes through so many outages, of a second up to the longest."""
    chance = random.Random()
    async with field(rig) as made:
        receivers = {await made.project(f"outages {n}"): Receiver() for n in range(RECEIVERS)}
        for project_id, receiver in receivers.items():
            await receiver.begin()
            await made.connector(project_id, "/hook", port=receiver.port)
        async with worker(rig, rig.valkey("everysec"), "dispatcher", UNDER_TEST):
            ended = asyncio.Event()
            loading = asyncio.create_task(_load(made, receivers, ended))
            for number in range(rounds):
                await asyncio.gather(*(receiver.go_through(chance, longest_s) for receiver in receivers.values()))
                report.progress(f"outages: round {number + 1} of {rounds}")
            ended.set()
            await loading
            deadline = asyncio.get_running_loop().time() + DRAINED_S
            while any(one.owed for one in receivers.values()) and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.1)
        for receiver in receivers.values():
            receiver.close()
    _tell(report, list(receivers.values()))


async def _load(made: Field, receivers: dict[UUID, Receiver], ended: asyncio.Event) -> None:
    def tell(project_id: UUID, event_id: str) -> None:
        receivers[project_id].happened(event_id)

    while not ended.is_set():
        await made.trickle(list(receivers), RATE, 1, tell)


def _tell(report: Report, receivers: list[Receiver]) -> None:
    outages = [outage for receiver in receivers for outage in receiver.outages]
    shorter_s = 0
    for longest_s in BUCKETS_S:
        found = [outage for outage in outages if shorter_s <= outage.length_s < longest_s]
        if found:
            drained = [outage.drained_s for outage in found]
            name = f"{len(found)} outages of {shorter_s or 1} to {longest_s} s, {sum(o.owed for o in found):,} owed"
            shown = f"p50 {median(drained):.1f} s, max {max(drained):.1f} s"
            report.add("outages", name, shown, outages=[outage._asdict() for outage in found])
        shorter_s = longest_s
    requests = sum(receiver.taken.total() for receiver in receivers)
    lost = sum(len(receiver.owed) for receiver in receivers)
    doubled = requests - sum(len(receiver.taken) for receiver in receivers)
    report.add("outages", f"{requests:,} delivered, lost {lost}, doubled {doubled}", f"{doubled / requests:.2%}")
    report.ratio("outage_drained_s_max", max(outage.drained_s for outage in outages), at_most=DRAINED_S)
    report.ratio("outage_lost", lost, at_most=0)
    report.ratio("outage_doubled", doubled / requests, at_most=0.01)
