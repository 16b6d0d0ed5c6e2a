"""The hot path: telemetry answered inside the HTTP protocol, without an ASGI task.

A subclass of uvicorn's httptools protocol (by way of `connection`). A plain ``POST /v1/devices/{id}/telemetry`` on a
connection with nothing else under way is handed to `Ingest` as soon as its body is complete, and answered when Redis
has it on disk. Every other request goes to Starlette exactly as uvicorn would have sent it: other routes, ``Expect``,
HTTP/1.0, packed bodies, and telemetry that was pipelined behind a request still under way (the ASGI route of the same
address serves it).

A request that arrives whole in one piece, with none but everyday headers, does not even meet the parser: one regular
expression takes it apart. Whatever that does not know, down to a header it has not heard of, goes to the parser, so it
needs to understand little and to be exact in that.

What cannot be parsed is refused behind the answers to what came before it. A wrong key is found out with the
headers, and the body that follows is dropped as it comes. White space around a header's value is no part of it,
trailers are no headers, and an offer to upgrade the connection is ignored (``curl --http2`` and Java's HttpClient make
one with every request).

What it leans on in uvicorn is pinned by tests/integration/hot: the parser callbacks, `cycle` with `response_complete`,
`disconnected`, `keep_alive` and `message_event`, `pipeline`, `flow`, `connections`, `default_headers`.
"""

from typing import Any

import httptools

from gateway.ingest.answers import HeadWriter
from gateway.ingest.connection import ABORT, GIVE_TIME, Connection
from gateway.ingest.hot_request import ID_END, PATH_LENGTH, PREFIX, SUFFIX, HotCycle, whole
from schemas.telemetry import BODY_BYTES_MAX

HEAD_BYTES_MAX = 64 * 1024
SLICE_BYTES = 16 * 1024
REQUESTS_AHEAD_MAX = 50
"""Requests that wait behind one under way on a connection; more stay unparsed, and then unread."""


class _RefusedHeadError(Exception):
    """A head that is well-formed and refused all the same; the text is for the client."""


class HotProtocol(Connection):
    """One connection, as its requests arrive."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        if self.cycle is None and not self.arriving and not self.unparsed and self._take_whole(data):
            return
        self.parse(self.unparsed + data)

    def _take_whole(self, data: bytes) -> bool:
        """Serve a hot request that arrived in one piece without the parser; False when it is anything else."""
        found = whole(data)
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

    def parse(self, data: bytes) -> None:
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
                self.refuse_connection(400, text)
            if self.refusal is None and self.arriving:
                # Of the piece in which the head begins, or a part of the body ends, nobody knows how much is head.
                self.head_bytes = 0 if self.head_bytes < 0 else self.head_bytes + len(piece)
                if self.head_bytes > HEAD_BYTES_MAX:
                    self.refuse_connection(431, "The headers are too large")
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
        is_old = self.parser.get_http_version() == "1.0"
        if is_old:  # such a client takes `100 Continue` for its answer: RFC 9110, section 10.1.1
            self.expect_100_continue = False
        super().on_headers_complete()
        cycle: Any = self.cycle
        cycle.transport = HeadWriter(cycle, self.transport, in_chunks=not is_old)
        extensions: Any = {ABORT: self.transport.abort, GIVE_TIME: self.give_time}
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
        keep_alive = parser.should_keep_alive()
        hot = self.cycle = HotCycle(self, device_id, key, keep_alive)  # type: ignore[assignment]
        if not self.hot.ingest.knows(device_id, key):
            hot.key = b""
            if keep_alive:
                # A client whose connection ended while it sends might never see why.
                self.hot.ingest.offer(hot, device_id, b"", b"")
        return True

    def on_body(self, body: bytes) -> None:
        self.head_bytes = -1
        cycle: Any = self.cycle
        if type(cycle) is not HotCycle:
            super().on_body(body)
            return
        if cycle.response_complete or not cycle.key:
            return
        cycle.body = cycle.body + body if cycle.body else body
        if len(cycle.body) > BODY_BYTES_MAX:
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
        elif cycle.response_complete:
            self.cycle = None  # type: ignore[assignment]
        elif cycle.key:
            self.hot.ingest.offer_trusted(cycle, cycle.device_id, cycle.key[:2], cycle.body)
        else:
            self.hot.ingest.offer(cycle, cycle.device_id, b"", b"")
