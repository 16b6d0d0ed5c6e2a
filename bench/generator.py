"""A load generator that outruns an edge: raw HTTP/1.1 over keep-alive connections, one request under way on each.

    python -m bench.generator URL DEVICES --connections 64 --seconds 5            as fast as answers come
    python -m bench.generator URL DEVICES --rate 16700 --seconds 60               at a fixed rate, whatever comes back

At a fixed rate a request's latency counts from when it was due, so a stall is seen by all that it delayed. Each
message carries a number of its own (`n`), by which lost and doubled ones are found afterwards. Prints one JSON line.
"""

import argparse
import asyncio
import sys
import time
from array import array
from collections import deque
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.request_template import RequestTemplate


class Outcome(msgspec.Struct):
    """What one run gave. Latencies in ms, rates per second."""

    seconds: float
    answered: int
    accepted: int
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    unanswered: int
    statuses: dict[str, int]


class Plan:
    """What is to be sent: one message of each device in turn."""

    def __init__(self, host: str, lines: list[bytes], mass: int) -> None:
        self._devices = [tuple(line.split()) for line in lines]
        self._host = host.encode()
        self._mass = mass
        self.sent = 0

    def next(self) -> bytes:
        """The bytes of the next request."""
        if self._mass:
            return self._many()
        number = self.sent
        self.sent += 1
        device_id, key = self._devices[number % len(self._devices)]
        body = _message(number)
        return (
            b"POST /v1/devices/%b/telemetry HTTP/1.1\r\nHost: %b\r\nAuthorization: %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        ) % (device_id, self._host, key, len(body), body)

    def _many(self) -> bytes:
        members = []
        first = self._devices[self.sent % len(self._devices)][0]
        for _ in range(self._mass):
            device_id, key = self._devices[self.sent % len(self._devices)]
            members.append(b'"%b":{"access_token":"%b",%b' % (device_id, key, _message(self.sent)[1:]))
            self.sent += 1
        body = b"{%b}" % b",".join(members)
        return (
            b"POST /v1/devices/%b/children/telemetries HTTP/1.1\r\nHost: %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        ) % (first, self._host, len(body), body)


def _message(number: int) -> bytes:
    return b'{"status":"online","telemetries":{"n":%d,"cpu":12.5,"mem":44,"disk":81,"up":true,"fw":"1.2.3"}}' % number


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._due = 0.0
        self._awaited = 0
        self._head = b""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, due: float) -> None:
        """Send the next request, which was due at `due`."""
        assert self._transport is not None
        self._due = due
        self._transport.write(self._run.plan.next())

    def data_received(self, data: bytes) -> None:
        if self._awaited:
            self._awaited -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            place = self._head.lower().find(b"content-length: ", 0, end)
            length = int(self._head[place + 16 : self._head.index(b"\r", place)]) if place > 0 else 0  # 204 has none
            self._awaited = end + 4 + length - len(self._head)
        if self._awaited <= 0:
            status, self._head, self._awaited = self._head[9:12], b"", 0
            self._run.answered(self, status, self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._run.lost(self)


class Run:
    """One measurement."""

    def __init__(self, plan: Plan | RequestTemplate, connections: int, rate: float, seconds: float) -> None:
        self.plan = plan
        self._connections = connections
        self._rate = rate
        self._seconds = seconds
        self._latencies = array("d")
        self._statuses: dict[bytes, int] = {}
        self._idle: deque[Client] = deque()
        self._due: deque[float] = deque()
        self._under_way = 0
        self._open = True
        self._lost = 0

    async def measure(self, host: str, port: int) -> Outcome:
        loop = asyncio.get_running_loop()
        clients = [
            (await loop.create_connection(lambda: Client(self), host, port))[1] for _ in range(self._connections)
        ]
        began = time.perf_counter()
        end = began + self._seconds
        if self._rate:
            self._idle.extend(clients)
            await self._pace(began)
        else:
            for client in clients:
                self._under_way += 1
                client.send(time.perf_counter())
            await asyncio.sleep(end - time.perf_counter())
        self._open = False
        seconds = time.perf_counter() - began
        accepted, answered = self._accepted(), len(self._latencies)
        deadline = time.perf_counter() + 30
        while (self._under_way or self._due) and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        if self._rate:
            accepted, answered = self._accepted(), len(self._latencies)
        ordered = sorted(self._latencies)
        return Outcome(
            seconds=seconds,
            answered=answered,
            accepted=accepted,
            rate=accepted / seconds,
            p50_ms=1000 * ordered[len(ordered) // 2],
            p99_ms=1000 * ordered[len(ordered) * 99 // 100],
            max_ms=1000 * ordered[-1],
            unanswered=self._under_way + len(self._due) + self._lost,
            statuses={status.decode(): count for status, count in self._statuses.items()},
        )

    def _accepted(self) -> int:
        """Answers of success: peers do not all say 201."""
        return sum(count for status, count in self._statuses.items() if status.startswith(b"2"))

    async def _pace(self, began: float) -> None:
        """Send at the fixed rate; what finds no idle connection waits, and its latency with it."""
        released, total = 0, int(self._rate * self._seconds)
        while released < total:
            now = time.perf_counter()
            while released < total and began + released / self._rate <= now:
                self._due.append(began + released / self._rate)
                released += 1
            self._release()
            await asyncio.sleep(0.001)

    def _release(self) -> None:
        while self._due and self._idle:
            client = self._idle.popleft()
            self._under_way += 1
            client.send(self._due.popleft())

    def answered(self, client: Client, status: bytes, due: float) -> None:
        now = time.perf_counter()
        self._latencies.append(now - due)
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._under_way -= 1
        if self._rate:
            self._idle.append(client)
            self._release()
        elif self._open:
            self._under_way += 1
            client.send(now)

    def lost(self, client: Client) -> None:
        if self._open or client not in self._idle:
            self._lost += 1


def main() -> None:
    """Run one measurement and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.generator", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("devices", type=Path, help="file with a device id and its access key a line")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second; 0: as fast as answers come")
    parser.add_argument("--mass", type=int, default=0, help="messages in one request; 0: one message, one request")
    parser.add_argument("--template", type=Path, help="file with another request than a message to the gateway")
    arguments = parser.parse_args()
    parts = urlsplit(arguments.url)
    lines = arguments.devices.read_bytes().splitlines()
    plan: Plan | RequestTemplate = Plan(parts.netloc, lines, arguments.mass)
    if arguments.template is not None:
        plan = RequestTemplate(arguments.template.read_bytes(), parts.netloc, lines)
    run = Run(plan, arguments.connections, arguments.rate, arguments.seconds)
    outcome = uvloop.run(run.measure(parts.hostname or "", parts.port or 80))
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")


if __name__ == "__main__":
    main()
