"""A tenant's program that asks for the same paths in turn, as fast as it is answered, over many connections.

    python -m bench.asker URL KEY PATH [PATH…] --connections 20

A process of its own: what it costs to read its answers is not to delay whoever is measured beside it. It waits a moment
where it is told to come back later, less than it is told, prints a line once it has been answered, and goes on until
it is ended.
"""

import argparse
import asyncio
import itertools
import sys
from collections.abc import Iterator
from typing import cast
from urllib.parse import urlsplit

import uvloop

LATER_S = 0.1


class Asker(asyncio.Protocol):
    """One connection, with one request under way."""

    def __init__(self, requests: Iterator[bytes], answered: asyncio.Event) -> None:
        self._requests = requests
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._left = 0
        self._later = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._head[:end].lower() + b"\r"
            length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
            self._later = b"retry-after" in head
            self._left = end + 4 + length - len(self._head)
        if self._left <= 0:
            self._head, self._left = b"", 0
            self._answered.set()
            asyncio.get_running_loop().call_later(LATER_S if self._later else 0, self._ask)


async def _run(url: str, key: str, paths: list[str], connections: int) -> None:
    parts, answered = urlsplit(url), asyncio.Event()
    loop = asyncio.get_running_loop()
    requests = [f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: {key}\r\n\r\n" for path in paths]
    turns = itertools.cycle(text.encode() for text in requests)
    for _ in range(connections):
        await loop.create_connection(lambda: Asker(turns, answered), parts.hostname or "", parts.port or 80)
    await answered.wait()
    sys.stdout.write("answered\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Ask until ended."""
    parser = argparse.ArgumentParser(prog="python -m bench.asker", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--connections", type=int, default=20)
    given = parser.parse_args()
    uvloop.run(_run(given.url, given.key, given.paths, given.connections))


if __name__ == "__main__":
    main()
