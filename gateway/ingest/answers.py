"""Answers as they stand on the wire, those of the hot path and what uvicorn's become."""

import re
from asyncio import Transport
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from schemas import replies

HEADERS = b"Content-Type: application/json\r\nContent-Length: %d\r\n"

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

    __slots__ = ("_cycle", "_transport")

    def __init__(self, cycle: Any, transport: Transport) -> None:
        self._cycle = cycle
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Write the head, after which the answer writes for itself; `100 Continue` may come before it."""
        if not data.startswith(STATUS_LINE[100]):
            self._cycle.transport = self._transport
            data = _NAME.sub(_usual, data)
        self._transport.write(data)

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is about to end."""
        return self._transport.is_closing()


def _usual(name: "re.Match[bytes]") -> bytes:
    return _USUAL_NAMES.get(name[0], name[0].title())
