"""One connection to a receiver, in HTTP/1.1: a request at a time, and of its answer what an attempt needs.

A general client spends most of an attempt on what webhooks never use (cookies, redirects, streams of parts, tracing);
here a request is one write, and an answer that came in one piece is one call of the parser.
"""

import asyncio
import re
from typing import cast

import httptools

ANSWER_BYTES_MAX = 64 * 1024
"""A longer answer costs its connection."""
ANSWER_KEPT_BYTES = 1024
HEAD_BYTES_MAX = 64 * 1024
_SLICE_BYTES = 16 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([2-5][0-9]{2})[ \r\n]")
_STATUS_LINE_BYTES = 64


class ProtocolError(Exception):
    """What came is no answer in HTTP."""


class Connection(asyncio.Protocol):
    """Send with `exchange`; when it returns, `status` and `retry_after` are those of the answer. See `rest`."""

    __slots__ = (
        "_beginning",
        "_body_bytes",
        "_ended",
        "_head_bytes",
        "_headed",
        "_loop",
        "_parser",
        "_timer",
        "_transport",
        "complete",
        "idle_since",
        "keep",
        "made_at",
        "retry_after",
        "status",
        "text",
    )

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._headed: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = self._body_bytes = 0
        self._beginning = b""
        """What came of the answer, until there is enough of it to read its first line."""
        self.made_at = self._loop.time()
        self.idle_since = 0.0
        """Loop times."""
        self.status = 0
        """Of the answer; 0 before it came."""
        self.retry_after: str | None = None
        self.text = bytearray()
        """The beginning of the answer's body."""
        self.complete = True
        """Whether nothing is to come: the answer is here to its end."""
        self.keep = False
        """Whether another request may follow."""

    def __repr__(self) -> str:
        return f"<Connection status={self.status} complete={self.complete}>"

    async def exchange(self, request: bytes, deadline: float) -> None:
        """Send a request and wait for the head of its answer, until `deadline` (loop time).

        Raises TimeoutError, ProtocolError, or OSError when the connection breaks; it is of no more use then.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("The connection was closed before the request was sent.")
        self.status = self._head_bytes = self._body_bytes = 0
        self.retry_after = None
        self._beginning = b""
        self.complete = self.keep = False
        if self.text:
            self.text.clear()
        self._headed = self._loop.create_future()
        self._timer = self._loop.call_at(deadline, self._expire)
        transport.write(request)
        try:
            await self._headed
        except BaseException:
            self.abort()
            raise
        finally:
            self._timer.cancel()
            self._headed = None

    async def rest(self, timeout_s: float) -> None:
        """Wait for the end of the answer, for so long at most; without one the connection is closed."""
        if self.complete or self._transport is None:
            return
        self._ended = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self.abort)
        try:
            await self._ended
        finally:
            timer.cancel()
            self._ended = None
            if not self.complete:
                self.abort()

    def silent(self) -> bool:
        """Whether nothing of an answer came."""
        return not self.status and not self._head_bytes

    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self.keep and self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _expire(self) -> None:
        self._fail(TimeoutError())

    def _fail(self, error: BaseException) -> None:
        """There will be no answer."""
        if self._headed is not None and not self._headed.done():
            self._headed.set_exception(error)

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc or ConnectionResetError("The connection was closed before an answer came."))
        self._end()

    def data_received(self, data: bytes) -> None:
        if self.complete:
            self.abort()
            return
        if not self.status and len(self._beginning) < _STATUS_LINE_BYTES:
            self._beginning = self._beginning + data if self._beginning else data
        try:
            for start in range(0, len(data), _SLICE_BYTES):
                piece = data[start : start + _SLICE_BYTES]
                self._parser.feed_data(piece)
                if not self.status:
                    self._head_bytes += len(piece)
                    if self._head_bytes > HEAD_BYTES_MAX:
                        raise ProtocolError(f"The head of the answer is longer than {HEAD_BYTES_MAX} bytes.")
        except ProtocolError as error:
            self._break(error)
        except httptools.HttpParserUpgrade:
            self.keep = False
        except httptools.HttpParserError as error:
            self._settle_for_status()
            self._break(ProtocolError(f"The answer is not HTTP: {error.__context__ or error}"))

    def _settle_for_status(self) -> None:
        """The head is not as it should be (bare line feeds, folded lines), but its first line has said what matters."""
        found = _STATUS_LINE.match(self._beginning)
        if found is not None and not self.status and self._headed is not None and not self._headed.done():
            self.status = int(found[1])
            self._headed.set_result(None)

    def _break(self, error: ProtocolError) -> None:
        """Nothing that follows can be read; a status that came stands."""
        self.keep = False
        self._fail(error)
        self.abort()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 11 and name.lower() == b"retry-after" and self.retry_after is None:
            self.retry_after = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        if self.complete:
            raise ProtocolError("More came than one answer.")
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            return
        self.status = status
        self._beginning = b""
        if self._headed is not None and not self._headed.done():
            self._headed.set_result(None)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if len(self.text) < ANSWER_KEPT_BYTES:
            self.text += data[: ANSWER_KEPT_BYTES - len(self.text)]
        if self._body_bytes > ANSWER_BYTES_MAX:
            self.abort()

    def on_message_complete(self) -> None:
        if not self.status:
            return
        self.complete = True
        self.keep = (
            self._parser.should_keep_alive()
            and self._transport is not None
            and not self._transport.get_write_buffer_size()
        )
        self._end()
