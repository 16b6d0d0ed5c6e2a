"""What all connections of one edge share: `Ingest`, limits, and the deadlines that are looked at once a second."""

import asyncio
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.ingest.answers import HEADERS
from gateway.ingest.ingest import Ingest
from gateway.ingest.route_timeouts import RouteTimeouts
from gateway.ingest.slow_readers import SlowReaders
from schemas import replies


class Arriving(Protocol):
    """A connection whose request has not arrived whole."""

    def give_up_waiting(self) -> None:
        """It took too long."""


class Agreeing(Protocol):
    """A connection that has yet to agree on TLS."""

    def abort(self) -> None:
        """End it."""


class HotState:
    """Lives in the application's lifespan state under ``hot``."""

    def __init__(
        self,
        ingest: Ingest,
        readers: SlowReaders,
        *,
        connections_max: int,
        request_timeout_s: float,
        route_timeouts: str = "",
    ) -> None:
        self.ingest = ingest
        self.readers = readers
        self.connections_max = connections_max
        self.request_timeout_s = request_timeout_s
        self.route_timeouts = RouteTimeouts(route_timeouts)
        self.handshakes: set[Agreeing] = set()
        """Connections that have yet to agree on TLS."""
        self.incomplete: dict[Arriving, float] = {}
        """Since when each request arrives that has not arrived whole, oldest first."""
        self.deadlines: dict[Arriving, float] = {}
        """Until when one may arrive whose route has a time of its own."""
        self.closing = asyncio.Event()
        self.date = b""
        self.nothing_waits = b""

    def __repr__(self) -> str:
        return f"<HotState incomplete={len(self.incomplete)} handshakes={len(self.handshakes)}>"

    def tick(self, now: float, date: bytes) -> None:
        """Once a second: renew the date of answers, end connections whose client neither sends nor takes in time.

        `now` is the event loop's time, `date` an HTTP date.
        """
        self.date = b"Date: %b\r\n" % date
        body = replies.NOTHING_WAITS
        self.nothing_waits = b"".join((STATUS_LINE[201], self.date, HEADERS % len(body), b"\r\n", body))
        for arriving, since in list(self.incomplete.items()):
            if now - since < self.request_timeout_s:
                break
            arriving.give_up_waiting()
        for arriving in [arriving for arriving, deadline in self.deadlines.items() if now >= deadline]:
            arriving.give_up_waiting()
        self.readers.tick(now)
