"""What the store itself gives: clients that each add one message to a stream, and the next when that was answered.

    python -m bench.bare_store PORT --clients 64 --seconds 5

With few connections a message takes as long as its fsync, and throughput is latency: no edge can answer more than this
by adding entries one at a time. Prints messages/s.
"""

import argparse
import asyncio
import sys
import time
from typing import cast

import uvloop

from bench.rig import UNDER_TEST, pinned
from schemas import entries, ids, keys

BODY = b'{"status":"online","telemetries":{"n":1,"cpu":12.5,"mem":44,"disk":81,"up":true,"fw":"1.2.3"}}'


class Client(asyncio.Protocol):
    """One client; an answer is the id of an entry, in two lines."""

    answered = 0
    """Of all clients."""

    def __init__(self, shard: int) -> None:
        item = [str(ids.new_id()).encode(), b"00", BODY]
        words = (b"XADD", keys.ingest(shard).encode(), b"*", entries.FIELD, entries.pack(time.time_ns() // 1000, item))
        packed = (b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        self._command = b"*%d\r\n" % len(words) + b"".join(packed)
        self._answer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._command)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._answer.count(b"\r\n") == 2:
            assert self._answer.startswith(b"$"), self._answer
            assert self._transport is not None
            Client.answered += 1
            self._answer = b""
            self._transport.write(self._command)


async def rate(port: int, *, clients: int, seconds: float) -> float:
    """Messages/s, by a process on the core that an edge would have."""
    words = [sys.executable, "-m", "bench.bare_store", str(port), f"--clients={clients}", f"--seconds={seconds}"]
    process = await asyncio.create_subprocess_exec(*pinned(UNDER_TEST, *words), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, f"the bare clients ended with {process.returncode}"
    return float(output)


async def _measure(port: int, clients: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    for n in range(clients):
        await loop.create_connection(lambda n=n: Client(n % 4), "127.0.0.1", port)  # type: ignore[misc]
    Client.answered, began = 0, time.perf_counter()
    await asyncio.sleep(seconds)
    return Client.answered / (time.perf_counter() - began)


def main() -> int:
    """Measure once."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare_store", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    print(uvloop.run(_measure(arguments.port, arguments.clients, arguments.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
