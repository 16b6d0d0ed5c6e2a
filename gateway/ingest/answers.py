"""Answers as they stand on the wire, those of the hot path and what uvicorn's become."""

import re
from asyncio import Transport
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from schemas import replies

CHALLENGE = b'WWW-Authenticate: Bearer realm="fleetgate"\r\n'
"""What goes with every 401: clients that find no challenge take the answer for a broken one."""
HEADERS = b"Content-Type: application/json\r\nContent-Length: %d\r\n"

_CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"
_NAME = re.compile(rb"(?m)^[a-z][a-z0-9-]*(?=: )")
_USUAL_NAMES = {b"etag": b"ETag", b"www-authenticate": b"WWW-Authenticate"}


def refusal(text: str, response_map: bytes | None) -> bytes:
    """The JSON of a refusal; with a response map its members follow the error."""
    error = msgspec.json.encode(text)
    if response_map is None:
        return b'{"error":%b}' % error
    return b'{"error":%b,"success":false,%b' % (error, response_map[len(replies.SUCCESS_PREFIX) :])


class HeadWriter:
    """The transport as an ASGI answer sees it until its head is written: names of headers get their usual case.

    uvicorn makes them lower-case, and there are clients that find no other than `Content-Length`.
    """

    __slots__ = ("_cycle", "_in_chunks", "_transport")

    def __init__(self, cycle: Any, transport: Transport, *, in_chunks: bool = True) -> None:
        """`in_chunks` is whether the client understands them; without, the end of the connection ends the answer."""
        self._cycle = cycle
        self._transport = transport
        self._in_chunks = in_chunks

    def write(self, data: bytes) -> None:
        """Write the head, after which the answer writes for itself; `100 Continue` may come before it."""
        if not data.startswith(STATUS_LINE[100]):
            self._cycle.transport = self._transport
            if not self._in_chunks and _CHUNKED in data:
                self._cycle.transport = _Unchunked(self._transport)
                data = data.replace(_CHUNKED, b"\r\n", 1)
            data = _NAME.sub(_usual, data)
        self._transport.write(data)

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is about to end."""
        return self._transport.is_closing()


class _Unchunked:
    """The transport as uvicorn sees it while it answers in chunks to a client that knows none (HTTP/1.0)."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Write what is in the chunks, which are whole."""
        while data:
            size, _, rest = data.partition(b"\r\n")
            end = int(size, 16)
            self._transport.write(rest[:end])
            data = rest[end + 2 :]

    def close(self) -> None:
        """End the connection, and with it the answer."""
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is about to end."""
        return self._transport.is_closing()


def _usual(name: "re.Match[bytes]") -> bytes:
    return _USUAL_NAMES.get(name[0], name[0].title())
