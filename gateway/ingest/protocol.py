"""The hot path: telemetry answered inside the HTTP protocol, without an ASGI task.

A subclass of uvicorn's httptools protocol. A plain ``POST /v1/devices/{id}/telemetry`` on a connection with nothing
else under way is handed to `Ingest` as soon as its body is complete, and answered when Redis has it on disk. Every
other request goes to Starlette exactly as uvicorn would have sent it: other routes, ``Expect``, HTTP/1.0, packed
bodies, and telemetry that was pipelined behind a request still under way (the ASGI route of the same address serves
it).

A request that arrives whole in one piece, with none but everyday headers, does not even meet the parser: one regular
expression takes it apart. Whatever that does not know, down to a header it has not heard of, goes to the parser, so it
needs to understand little and to be exact in that.

It also adds what uvicorn lacks: a request must arrive whole within a set time, a half-closed client still gets its
answer, a refusal by the parser is JSON, connections are bounded, and so is what a client can make wait that sends
without reading. What cannot be parsed is refused behind the answers to what came before it. White space around a
header's value is no part of it, trailers are no headers, and an offer to upgrade the connection is ignored
(``curl --http2`` and Java's HttpClient make one with every request).

What it leans on in uvicorn is pinned by tests/integration/hot: the parser callbacks, `cycle` with `response_complete`,
`disconnected`, `keep_alive` and `message_event`, `pipeline`, `flow`, `connections`, `default_headers`.
"""

import asyncio
import re
from asyncio import TimerHandle, Transport
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.ingest.ingest import Ingest
from gateway.ingest.route_timeouts import RouteTimeouts
from schemas import replies
from schemas.telemetry import BODY_BYTES_MAX

PREFIX, SUFFIX = b"/v1/devices/", b"/telemetry"
ID_END = len(PREFIX) + 36
PATH_LENGTH = ID_END + len(SUFFIX)

HEAD_BYTES_MAX = 64 * 1024
SLICE_BYTES = 16 * 1024
REQUESTS_AHEAD_MAX = 50
"""Requests that wait behind one under way on a connection; more stay unparsed, and then unread."""
ABORT = "fleetgate.abort"
"""The scope's extension that ends a connection whose client takes nothing, without waiting for it."""
ENDLESS = "fleetgate.endless"
"""The extension set by an answer that never ends by itself: a client that stops sending is taken to be gone."""

_HEADERS = b"Content-Type: application/json\r\nContent-Length: %d\r\n"
_ACCEPTED = STATUS_LINE[201]


# Each header at most in one form, key and length once each, and nothing that changes how the rest is to be read.
_OTHER = rb"(?:Host|Content-Type|User-Agent|Accept|Accept-Encoding): [^\r\n\0]*\r\n"
_KEY = rb"[Aa]uthorization: (?:Bearer )?([0-9a-f]{32})\r\n"
_LENGTH = rb"[Cc]ontent-[Ll]ength: ([0-9]{1,6})\r\n"
_WHOLE = re.compile(
    rb"POST /v1/devices/([0-9a-f-]{36})/telemetry HTTP/1\.1\r\n"
    rb"(?:%b)*(?:%b(?:%b)*%b|%b(?:%b)*%b)(?:%b)*\r\n" % (_OTHER, _KEY, _OTHER, _LENGTH, _LENGTH, _OTHER, _KEY, _OTHER)
).match


class _Unwatched:
    """In place of uvicorn's event that wakes an ASGI application: on the hot path no task waits."""

    def set(self) -> None:
        """No task waits for it."""


_NAME = re.compile(rb"(?m)^[a-z][a-z0-9-]*(?=: )")
_USUAL_NAMES = {b"etag": b"ETag", b"www-authenticate": b"WWW-Authenticate"}


def _usual(name: "re.Match[bytes]") -> bytes:
    return _USUAL_NAMES.get(name[0], name[0].title())


class _HeadWriter:
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


class _RefusedHeadError(Exception):
    """A head that is well-formed and refused all the same; the text is for the client."""


class HotCycle:
    """One telemetry request on the hot path, from its headers to its answer; a Receiver of Ingest.

    Looks to uvicorn's protocol like its own RequestResponseCycle.
    """

    __slots__ = ("body", "device_id", "disconnected", "keep_alive", "key", "protocol", "response_complete")

    message_event = _Unwatched()

    def __init__(self, protocol: "HotProtocol", device_id: bytes, key: bytes, keep_alive: bool) -> None:
        self.protocol = protocol
        self.device_id = device_id
        self.key = key
        self.keep_alive = keep_alive
        self.body = b""
        self.disconnected = False
        self.response_complete = False

    def accepted(self, response_map: bytes) -> None:
        """Answer 201 with the response map."""
        if self.keep_alive and response_map is replies.NOTHING_WAITS:
            self._answer(self.protocol.hot.nothing_waits)
        else:
            self._answer(self._response(_ACCEPTED, response_map))

    def refused(self, status: int, text: str, response_map: bytes | None, retry_after_s: int | None) -> None:
        """Answer with an error, and with the response map where there is one."""
        extra = b"" if retry_after_s is None else b"Retry-After: %d\r\n" % retry_after_s
        self._answer(self._response(STATUS_LINE[status], refusal(text, response_map), extra))

    def _response(self, status_line: bytes, body: bytes, extra: bytes = b"") -> bytes:
        close = b"" if self.keep_alive else b"Connection: close\r\n"
        return b"".join(
            (status_line, self.protocol.hot.date, _HEADERS % len(body), extra, close, b"\r\n", body),
        )

    def _answer(self, response: bytes) -> None:
        self.response_complete = True
        if self.disconnected:
            return
        protocol = self.protocol
        protocol.transport.write(response)
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


def refusal(text: str, response_map: bytes | None) -> bytes:
    """The JSON of a refusal; with a response map its members follow the error."""
    error = msgspec.json.encode(text)
    if response_map is None:
        return b'{"error":%b}' % error
    return b'{"error":%b,"success":false,%b' % (error, response_map[len(replies.SUCCESS_PREFIX) :])


class HotState:
    """What all connections of one edge share. Lives in the application's lifespan state under ``hot``."""

    def __init__(
        self, ingest: Ingest, *, connections_max: int, request_timeout_s: float, route_timeouts: str = ""
    ) -> None:
        self.ingest = ingest
        self.connections_max = connections_max
        self.request_timeout_s = request_timeout_s
        self.route_timeouts = RouteTimeouts(route_timeouts)
        self.incomplete: dict[HotProtocol, float] = {}
        """Since when each request arrives that has not arrived whole, oldest first."""
        self.deadlines: dict[HotProtocol, float] = {}
        """Until when one may arrive whose route has a time of its own."""
        self.closing = asyncio.Event()
        self.date = b""
        self.nothing_waits = b""

    def __repr__(self) -> str:
        return f"<HotState incomplete={len(self.incomplete)}>"

    def tick(self, now: float, date: bytes) -> None:
        """Once a second: renew the date of answers, close connections whose request does not arrive.

        `now` is the event loop's time, `date` an HTTP date.
        """
        self.date = b"Date: %b\r\n" % date
        body = replies.NOTHING_WAITS
        self.nothing_waits = b"".join((_ACCEPTED, self.date, _HEADERS % len(body), b"\r\n", body))
        for protocol, since in list(self.incomplete.items()):
            if now - since < self.request_timeout_s:
                break
            protocol.give_up_waiting()
        for protocol in [protocol for protocol, deadline in self.deadlines.items() if now >= deadline]:
            protocol.give_up_waiting()


class HotProtocol(HttpToolsProtocol):
    """One connection."""

    # Python keeps the attributes of a class's instances together only up to 30 of them; uvicorn's own are near that,
    # and these beside them would cost every idle connection 2 KiB.
    __slots__ = ("arriving", "head_bytes", "hot", "idle_since", "idle_timer", "in_head", "refusal", "unparsed")

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.hot: HotState = app_state["hot"]
        self.idle_since = 0.0
        self.idle_timer: TimerHandle | None = None
        self.arriving = False
        self.in_head = False
        self.head_bytes = 0
        self.refusal: bytes | None = None
        self.unparsed = b""

    # The connection

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        hot = self.hot
        if len(self.connections) > hot.connections_max:
            self._refuse_connection(503, "Too many connections")
            return
        hot.incomplete[self] = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self.cycle is None and not self.arriving and not self.unparsed and self._take_whole(data):
            return
        self._parse(self.unparsed + data)

    def _parse(self, data: bytes) -> None:
        """Parse slice by slice, and stop while as many requests wait as a client may send ahead."""
        if self.refusal is not None:
            return
        self.unparsed = b""
        for start in range(0, len(data), SLICE_BYTES):
            if len(self.pipeline) >= REQUESTS_AHEAD_MAX:
                self.unparsed = data[start:]
                self.flow.pause_reading()
                return
            piece = data[start : start + SLICE_BYTES]
            try:
                self._feed(piece)
            except httptools.HttpParserError as error:
                refused = error.__context__
                text = str(refused) if isinstance(refused, _RefusedHeadError) else "Invalid HTTP request"
                self._refuse_connection(400, text)
            if self.refusal is None and self.arriving:
                # Of the piece in which the head begins, or a part of the body ends, nobody knows how much is head.
                self.head_bytes = 0 if self.head_bytes < 0 else self.head_bytes + len(piece)
                if self.head_bytes > HEAD_BYTES_MAX:
                    self._refuse_connection(431, "The headers are too large")
            if self.refusal is not None or self.transport.is_closing():
                return
        hot = self.hot
        if self.arriving and self not in hot.incomplete and self not in hot.deadlines:
            hot.incomplete[self] = self.loop.time()

    def _feed(self, data: bytes) -> None:
        """Have data parsed. Raises HttpParserError.

        The parser stops behind the head of a request that offers an upgrade, and would drop its body. Another one reads
        the request again without the offer.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self._version())
                kept = [b"%b: %b\r\n" % header for header in self.headers if header[0].lower() != b"upgrade"]
                data = b"".join((line, *kept, b"\r\n", data[stopped.args[0] :]))
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _version(self) -> bytes:
        version: str = self.parser.get_http_version()
        return version.encode()

    def _go_on(self) -> None:
        """Take up again what waited for answers to be written, or for requests before it."""
        if self.transport.is_closing() or self.flow.write_paused:
            return
        if self.unparsed:
            self._parse(self.unparsed)
        if not self.unparsed:
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """The client does not read: read nothing from it either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def _take_whole(self, data: bytes) -> bool:
        """Serve a hot request that arrived in one piece without the parser; False when it is anything else."""
        found = _WHOLE(data)
        if found is None:
            return False
        device_id, key, length, length_first, key_second = found.groups()
        body = data[found.end() :]
        if len(body) != int(length or length_first):
            return False
        if self.hot.incomplete:
            self.hot.incomplete.pop(self, None)
        cycle = self.cycle = HotCycle(self, device_id, key or key_second, True)  # type: ignore[assignment]
        self.hot.ingest.offer(cycle, device_id, key or key_second, body)
        return True

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that only stopped sending still gets the answer to what it sent."""
        if self.refusal is not None:
            return not self.transport.is_closing()
        cycle: Any = self.pipeline[0][0] if self.pipeline else self.cycle
        if self.arriving or cycle is None or cycle.response_complete or self.scheme == "https":
            return False
        if type(cycle) is not HotCycle and cycle.scope.get("extensions", {}).get(ENDLESS):
            return False
        cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        self.hot.closing.set()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.hot.incomplete.pop(self, None)
        self.hot.deadlines.pop(self, None)
        if self.idle_timer is not None:
            self.idle_timer.cancel()
            self.idle_timer = None

    def give_up_waiting(self) -> None:
        """The request took too long to arrive."""
        self.hot.incomplete.pop(self, None)
        self.hot.deadlines.pop(self, None)
        if self.arriving:
            self._refuse_connection(408, "Request did not arrive in time")
        else:
            self.transport.close()

    def _refuse_connection(self, status: int, text: str) -> None:
        """Refuse what arrives and end the connection, after the answers to all that arrived before it."""
        body = refusal(text, None)
        headers = (self.hot.date, _HEADERS % len(body), b"Connection: close\r\n\r\n")
        self.refusal = b"".join((STATUS_LINE[status], *headers, body))
        self.unparsed = b""
        cycle: Any = self.cycle
        if self.arriving and not self.in_head and cycle is not None:
            # It is the body of this request that is refused.
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
                return
            if cycle.response_complete if type(cycle) is HotCycle else cycle.response_started:
                self.refusal = b""
        elif cycle is not None and not cycle.response_complete:
            return
        self._end_refused()

    def _end_refused(self) -> None:
        assert self.refusal is not None
        self.transport.write(self.refusal)
        self.transport.close()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.head_bytes = -1
        self.arriving = self.in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _RefusedHeadError("This is not a proxy")
            return
        if not self._is_hot():
            self._begin_ordinary()
        self.in_head = False
        if self.hot.route_timeouts:
            timeout_s = self.hot.route_timeouts.of(self.url)
            if timeout_s is not None:
                self.hot.incomplete.pop(self, None)
                self.hot.deadlines[self] = self.loop.time() + timeout_s

    def _begin_ordinary(self) -> None:
        """Let Starlette have the request whose head is complete."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        if len({value for name, value in self.headers if name == b"authorization"}) > 1:
            raise _RefusedHeadError("Authorization is given more than once")
        super().on_headers_complete()
        cycle: Any = self.cycle
        cycle.transport = _HeadWriter(cycle, self.transport)
        extensions: Any = {ABORT: self.transport.abort}
        self.scope["extensions"] = extensions

    def _is_hot(self) -> bool:
        url = self.url
        if len(url) != PATH_LENGTH or url[ID_END:] != SUFFIX or url[: len(PREFIX)] != PREFIX:
            return False
        cycle, parser = self.cycle, self.parser
        if (cycle is not None and not cycle.response_complete) or parser.get_method() != b"POST":
            return False
        given: bytes | None = None
        for name, value in self.headers:
            length = len(name)
            if length == 13:
                if name.lower() == b"authorization":
                    if given not in (None, value):
                        return False
                    given = value
            elif length in (6, 16) and name.lower() in (b"expect", b"content-encoding"):
                return False
        if parser.get_http_version() != "1.1":
            return False
        key = given or b""
        if len(key) != 32 and key[:7].lower() == b"bearer ":
            key = key[7:].strip()
        device_id = url[len(PREFIX) : ID_END].lower()
        self.cycle = HotCycle(self, device_id, key, parser.should_keep_alive())  # type: ignore[assignment]
        return True

    def on_body(self, body: bytes) -> None:
        self.head_bytes = -1
        cycle: Any = self.cycle
        if type(cycle) is not HotCycle:
            super().on_body(body)
            return
        cycle.body = cycle.body + body if cycle.body else body
        if len(cycle.body) > BODY_BYTES_MAX and not cycle.response_complete:
            cycle.keep_alive = False
            self.hot.ingest.refuse_too_large(cycle)

    def on_message_complete(self) -> None:
        if self.in_head:
            # The parser stopped behind the head, for the upgrade it offers.
            return
        self.arriving = False
        if self.hot.incomplete:
            self.hot.incomplete.pop(self, None)
        if self.hot.deadlines:
            self.hot.deadlines.pop(self, None)
        cycle: Any = self.cycle
        if type(cycle) is not HotCycle:
            super().on_message_complete()
        elif not cycle.response_complete:
            self.hot.ingest.offer(cycle, cycle.device_id, cycle.key, cycle.body)

    # The end of a response

    def on_response_complete(self) -> None:
        """As uvicorn's, with one timer a connection instead of one a request, and nothing kept while idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.unparsed or self.flow.read_paused:
            self.loop.call_soon(self._go_on)
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        if self.refusal is not None:
            self._end_refused()
            return
        if not self.arriving:
            self.cycle = self.scope = None  # type: ignore[assignment]
            self.headers = []
        self.idle_since = self.loop.time()
        if self.idle_timer is None:
            self.idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def _close_if_idle(self) -> None:
        left_s = self.timeout_keep_alive - (self.loop.time() - self.idle_since)
        if self.arriving or (self.cycle is not None and not self.cycle.response_complete):
            left_s = self.timeout_keep_alive
        if left_s <= 0:
            self.idle_timer = None
            self.transport.close()
        else:
            self.idle_timer = self.loop.call_later(left_s, self._close_if_idle)
