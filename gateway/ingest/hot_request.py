"""One telemetry request on the hot path: how it is recognised whole, and its way from the headers to the answer."""

import re
from asyncio import Transport
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.ingest.answers import CHALLENGE, HEADERS, refusal
from gateway.ingest.hot_state import HotState
from schemas import replies

PREFIX, SUFFIX = b"/v1/devices/", b"/telemetry"
ID_END = len(PREFIX) + 36
PATH_LENGTH = ID_END + len(SUFFIX)

# Each header at most in one form, key and length once each, and nothing that changes how the rest is to be read.
_OTHER = rb"(?:Host|Content-Type|User-Agent|Accept|Accept-Encoding): [^\r\n\0]*\r\n"
_KEY = rb"[Aa]uthorization: (?:Bearer )?([0-9a-f]{32})\r\n"
_LENGTH = rb"[Cc]ontent-[Ll]ength: ([0-9]{1,6})\r\n"
whole = re.compile(
    rb"POST /v1/devices/([0-9a-f-]{36})/telemetry HTTP/1\.1\r\n"
    rb"(?:%b)*(?:%b(?:%b)*%b|%b(?:%b)*%b)(?:%b)*\r\n" % (_OTHER, _KEY, _OTHER, _LENGTH, _LENGTH, _OTHER, _KEY, _OTHER)
).match
"""Matches the head of a request that says nothing unusual: id, then key and length in either order."""

_ACCEPTED = STATUS_LINE[201]


class Answered(Protocol):
    """The connection that a request came by."""

    hot: HotState
    transport: Transport

    def on_response_complete(self) -> None:
        """The answer is written."""


UNAUTHORIZED = 401


class _Unwatched:
    """In place of uvicorn's event that wakes an ASGI application: on the hot path no task waits."""

    def set(self) -> None:
        """No task waits for it."""


class HotCycle:
    """One request; a Receiver of Ingest. Looks to uvicorn's protocol like its own RequestResponseCycle."""

    __slots__ = ("body", "device_id", "disconnected", "keep_alive", "key", "protocol", "response_complete")

    message_event = _Unwatched()

    def __init__(self, protocol: Answered, device_id: bytes, key: bytes, keep_alive: bool) -> None:
        self.protocol = protocol
        self.device_id = device_id
        self.key = key
        self.keep_alive = keep_alive
        self.body = b""
        self.disconnected = False
        self.response_complete = False

    def accepted(self, response_map: bytes) -> None:
        """Answer 201 with the response map."""
        if self.keep_alive and response_map == replies.NOTHING_WAITS:
            self._answer(self.protocol.hot.nothing_waits)
        else:
            self._answer(self._response(_ACCEPTED, response_map))

    def refused(self, status: int, text: str, response_map: bytes | None, retry_after_s: int | None) -> None:
        """Answer with an error, and with the response map where there is one."""
        extra = b"" if retry_after_s is None else b"Retry-After: %d\r\n" % retry_after_s
        if status == UNAUTHORIZED:
            extra += CHALLENGE
        self._answer(self._response(STATUS_LINE[status], refusal(text, response_map), extra))

    def _response(self, status_line: bytes, body: bytes, extra: bytes = b"") -> bytes:
        close = b"" if self.keep_alive else b"Connection: close\r\n"
        return b"".join((status_line, self.protocol.hot.date, HEADERS % len(body), extra, close, b"\r\n", body))

    def _answer(self, response: bytes) -> None:
        self.response_complete = True
        if self.disconnected:
            return
        protocol = self.protocol
        protocol.transport.write(response)
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()
