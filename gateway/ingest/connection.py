"""How one connection lives and ends: what uvicorn's httptools protocol lacks, whatever its requests are.

A request must arrive whole within a set time, and an answer be taken within another; a half-closed client still gets
its answer; a refusal by the parser is JSON, and told behind the answers to what came before it; connections are
bounded, and so is what a client can make wait that sends without reading.
"""

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.ingest.answers import HEADERS, refusal
from gateway.ingest.hot_request import HotCycle
from gateway.ingest.hot_state import HotState

ABORT = "fleetgate.abort"
"""The scope's extension that ends a connection whose client takes nothing, without waiting for it."""
GIVE_TIME = "fleetgate.give_time"
"""The extension by which whoever reads a long body says that a piece of it came."""
ENDLESS = "fleetgate.endless"
"""The extension set by an answer that never ends by itself: a client that stops sending is taken to be gone."""


class Connection(HttpToolsProtocol):
    """One connection; `gateway.ingest.protocol` reads its requests."""

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

    def parse(self, data: bytes) -> None:
        """Read requests."""
        raise NotImplementedError

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        hot = self.hot
        if len(self.connections) + len(hot.handshakes) > hot.connections_max:
            self.refuse_connection(503, "Too many connections")
            return
        hot.incomplete[self] = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.hot.incomplete.pop(self, None)
        self.hot.deadlines.pop(self, None)
        self.hot.readers.forget(self.transport)
        if self.idle_timer is not None:
            self.idle_timer.cancel()
            self.idle_timer = None

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
        self._leave()

    # Clients that do not read

    def pause_writing(self) -> None:
        """The client does not read: read nothing from it either."""
        super().pause_writing()
        self.flow.pause_reading()
        self.hot.readers.watch(self.transport, self.loop.time())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport.is_closing():
            return
        self.hot.readers.forget(self.transport)
        self._go_on()

    def _leave(self) -> None:
        """The connection ends when its client has taken what is written; it may never do so."""
        if self.transport.is_closing():
            self.hot.readers.watch(self.transport, self.loop.time())

    def close(self) -> None:
        """End the connection."""
        self.transport.close()
        self._leave()

    def _go_on(self) -> None:
        """Take up again what waited for answers to be written, or for requests before it."""
        if self.transport.is_closing() or self.flow.write_paused:
            return
        if self.unparsed:
            self.parse(self.unparsed)
        if not self.unparsed:
            self.flow.resume_reading()

    # Refusing what arrives

    def give_time(self) -> None:
        """A long body comes along: what follows may take as long again as a whole request."""
        if self.arriving:
            self.hot.incomplete.pop(self, None)
            until = self.loop.time() + self.hot.request_timeout_s
            self.hot.deadlines[self] = max(until, self.hot.deadlines.get(self, 0.0))

    def give_up_waiting(self) -> None:
        """The request took too long to arrive."""
        self.hot.incomplete.pop(self, None)
        self.hot.deadlines.pop(self, None)
        if self.arriving:
            self.refuse_connection(408, "Request did not arrive in time")
        else:
            self.close()

    def refuse_connection(self, status: int, text: str) -> None:
        """Refuse what arrives and end the connection, after the answers to all that arrived before it."""
        body = refusal(text, None)
        headers = (self.hot.date, HEADERS % len(body), b"Connection: close\r\n\r\n")
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
        self.close()

    # The end of a response

    def on_response_complete(self) -> None:
        """As uvicorn's, with one timer a connection instead of one a request, and nothing kept while idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._leave()
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
            self.close()
        else:
            self.idle_timer = self.loop.call_later(left_s, self._close_if_idle)
