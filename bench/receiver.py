"""A receiver of webhooks that costs next to nothing, and behaves as the path asks.

python -m bench.receiver PORT

POST /ok/NAME     200 at once              POST /slow/NAME    200 after 300 ms
POST /timed/NAME  200, and the age of the event is kept
POST /wrong/NAME  500                      POST /hang/NAME    nothing, ever
POST /drip/NAME   200 and a byte a second, without end
GET  /stats       requests and ages by path, as JSON
GET  /reset/PREFIX forget those of the paths that begin with /PREFIX
"""

import asyncio
import sys
import time
from array import array
from datetime import UTC, datetime
from typing import cast

import msgspec
import uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
WRONG = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SLOW_S = 0.3
_STAMP = b'"timestamp":"'


class Path(msgspec.Struct):
    """What came to one path. Ages in ms, from the event's own timestamp to its arrival here."""

    count: int
    first_at: float
    last_at: float
    p50_ms: float
    p99_ms: float


class Seen:
    """Requests of one path."""

    __slots__ = ("ages_s", "count", "first_at", "last_at")

    def __init__(self) -> None:
        self.count = 0
        self.first_at = self.last_at = 0.0
        self.ages_s = array("d")

    def summary(self) -> Path:
        ages = sorted(self.ages_s)
        p50, p99 = (1000 * ages[int(len(ages) * share)] if ages else 0.0 for share in (0.5, 0.99))
        return Path(self.count, self.first_at, self.last_at, p50, p99)


class Hook(asyncio.Protocol):
    """One connection. Requests are never pipelined by an HTTP client, so one is looked at at a time."""

    def __init__(self, seen: dict[bytes, Seen]) -> None:
        self._seen = seen
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head < 0:
            self._buffer = buffer
            return
        at = buffer.find(b"ontent-Length: ", 0, head)
        if at < 0:  # as some clients write it
            at = buffer.find(b"ontent-length: ", 0, head)
        length = int(buffer[at + 15 : buffer.index(b"\r", at)]) if at > 0 else 0
        if len(buffer) < head + 4 + length:
            self._buffer = buffer
            return
        self._buffer = b""
        self._answer(buffer[buffer.index(b" ") + 1 : buffer.index(b" HTTP/")], buffer[head + 4 :])

    def _answer(self, path: bytes, body: bytes) -> None:
        assert self._transport is not None
        if path == b"/stats":
            text = msgspec.json.encode({name.decode(): seen.summary() for name, seen in self._seen.items()})
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
            return
        if path.startswith(b"/reset/"):
            prefix = path.removeprefix(b"/reset")
            for name in [name for name in self._seen if name.startswith(prefix)]:
                del self._seen[name]
            self._transport.write(OK)
            return
        seen = self._seen.get(path)
        if seen is None:
            seen = self._seen[path] = Seen()
        now = time.time()
        seen.count += 1
        seen.first_at = seen.first_at or now
        seen.last_at = now
        kind = path[1:3]
        if kind == b"ok":
            self._transport.write(OK)
        elif kind == b"ti":
            at = body.rindex(_STAMP) + len(_STAMP)
            stamp = datetime.fromisoformat(body[at : body.index(b'"', at)].decode()).astimezone(UTC)
            seen.ages_s.append(now - stamp.timestamp())
            self._transport.write(OK)
        elif kind == b"sl":
            asyncio.get_running_loop().call_later(SLOW_S, self._send, OK)
        elif kind == b"wr":
            self._transport.write(WRONG)
        elif kind == b"dr":
            self._transport.write(ENDLESS)
            self._drip()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _drip(self) -> None:
        self._send(b"1\r\nx\r\n")
        if self._transport is not None:
            asyncio.get_running_loop().call_later(1, self._drip)


async def _serve(port: int) -> None:
    seen: dict[bytes, Seen] = {}
    server = await asyncio.get_running_loop().create_server(lambda: Hook(seen), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
