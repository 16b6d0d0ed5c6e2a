"""The edge process: uvicorn with the hot path's protocol in front of the application."""

import asyncio
import contextlib
import functools
import resource
import signal
import socket
from types import FrameType

import uvicorn

from gateway.app import make_app
from gateway.background import Background
from gateway.certificate import Certificate
from gateway.ingest.handshake import Handshake
from gateway.ingest.protocol import HotProtocol
from gateway.listening import BACKLOG
from schemas.metrics import Metrics
from schemas.settings import EdgeSettings, SettingsError

TICK_S = 1.0
"""How often uvicorn renews the date of its answers; by itself it looks ten times as often whether it is to end."""


class EdgeServer(uvicorn.Server):
    """The server of one edge. It shuts down, as when it is told to, when one of its loops dies.

    SIGHUP has it read its certificate again, and does nothing else.
    """

    def __init__(self, settings: EdgeSettings, metrics: Metrics, *, loop: str = "uvloop") -> None:
        self.background = Background(self._end)
        self._settings = settings
        self._ending = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                make_app(settings, metrics, self.background),
                http=HotProtocol,
                ws="none",
                loop=loop,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=settings.shutdown_timeout_s,
                backlog=BACKLOG,
                ssl_certfile=settings.tls_certificate or None,
                ssl_keyfile=settings.tls_key or None,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but for TLS, which it would leave to the event loop; then follow the certificate."""
        context, self.config.ssl = self.config.ssl, None
        if context is not None:
            timeout_s = self._settings.tls_handshake_timeout_s
            accept = functools.partial(Handshake, context, timeout_s, HotProtocol)
            self.config.http_protocol_class = accept  # type: ignore[assignment]
        await super().startup(sockets=sockets)
        if context is not None and self.started:
            certificate = Certificate(context, self._settings.tls_certificate, self._settings.tls_key)
            self.background.start("certificate", certificate.run())
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, certificate.renew)

    async def main_loop(self) -> None:
        """As uvicorn's, which wakes up ten times a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._ending.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal says to end. It may come between any two steps of the event loop."""
        super().handle_exit(sig, frame)
        asyncio.get_running_loop().call_soon_threadsafe(self._ending.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; nobody waits for handshakes."""
        for handshake in list(self.lifespan.state["hot"].handshakes):
            handshake.abort()
        await super().shutdown(sockets=sockets)

    def _end(self) -> None:
        self.should_exit = True
        self._ending.set()


def run(settings: EdgeSettings, listener: socket.socket) -> int:
    """Serve on a listening socket until SIGTERM or SIGINT; the exit code: 1 when a loop died.

    Raises SettingsError when the settings do not fit the database.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes these over, and raises them once more when it is done: by then there is nothing left to end.
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    server = EdgeServer(settings, Metrics())
    try:
        server.run(sockets=[listener])
    except SystemExit:  # uvicorn's, for an application that did not start
        if isinstance(server.background.cause, SettingsError):
            raise server.background.cause from None
        raise
    return 0 if server.background.cause is None else 1
