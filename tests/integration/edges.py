"""Running edges, with real Postgres and Valkey behind them."""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.edge import EdgeServer
from gateway.listening import bind
from gateway.services import Services
from schemas import keys, postgres
from schemas.metrics import Metrics
from schemas.redis import Redis
from schemas.settings import EdgeSettings
from tests.conftest import MASTER_KEY, SHARDS

METRICS_TOKEN = "m" * 16
CHECK_SESSIONS = postgres.check_sessions
IDLE_CHECKS_MAX = 20
"""How often to look, a millisecond apart, whether the server has noticed that its clients are gone."""


@dataclass
class RunningEdge:
    """An edge on an ephemeral port, in the tests' own event loop."""

    url: str
    port: int
    http: aiohttp.ClientSession
    services: Services
    server: EdgeServer
    end: Callable[[], None]
    """Tell it to shut down."""


async def open_shards(client: Redis) -> None:
    """What the owner of a shard does before edges may take telemetry: mark replies complete, create the stream."""
    together = client.pipeline(transaction=False)
    for shard in range(SHARDS):
        together.hset(keys.reply(shard), "!", "1")
        together.xadd(keys.ingest(shard), {"b": b""}, id="0-1")
        together.xtrim(keys.ingest(shard), maxlen=0, approximate=False)
    await together.execute()


@contextlib.asynccontextmanager
async def running_edge(dsn: str, redis_url: str, **settings: Any) -> AsyncIterator[RunningEdge]:
    """An edge with these settings; no limit of calls is in the way unless they say so."""
    with tempfile.TemporaryDirectory(prefix="files") as folder:
        async with _running(dsn, redis_url, {"file_store": folder} | settings) as running:
            yield running


@contextlib.asynccontextmanager
async def _running(dsn: str, redis_url: str, settings: dict[str, Any]) -> AsyncIterator[RunningEdge]:
    listener = bind("127.0.0.1:0")
    port = listener.getsockname()[1]
    given = {
        "bind": f"127.0.0.1:{port}",
        "shutdown_timeout_s": 2,
        "account_calls_max": 1_000_000,
        "api_key_calls_max": 1_000_000,
        "metrics_token": METRICS_TOKEN,
    }
    given |= settings
    server = EdgeServer(
        EdgeSettings(postgres_dsn=dsn, redis_url=redis_url, master_key=MASTER_KEY, **given),
        Metrics(CollectorRegistry()),
        loop="asyncio",
    )
    found: list[Services] = []

    async def find(request: Request) -> JSONResponse:
        found.append(request.state.services)
        return JSONResponse({})

    server.config.app.router.routes.append(Route("/_tests/gateway", find))
    told = asyncio.Event()

    async def main_loop() -> None:
        """As uvicorn's own, which would look for its end ten times a second."""
        await server.on_tick(0)
        await told.wait()

    server.main_loop = main_loop
    postgres.check_sessions = _sessions_as_always
    serving = asyncio.create_task(server._serve(sockets=[listener]), name="edge")
    url = f"{'https' if 'tls_certificate' in settings else 'http'}://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
            while not server.started:
                assert not serving.done(), serving.exception()
                await asyncio.sleep(0.005)
            postgres.check_sessions = CHECK_SESSIONS
            async with http.get(f"{url}/_tests/gateway") as response:
                assert response.status == 200
            await _until_connected(http, url)
            yield RunningEdge(url, port, http, found[0], server, told.set)
    finally:
        postgres.check_sessions = CHECK_SESSIONS
        if not told.is_set():
            await _until_idle(server)
        told.set()
        await serving


async def _sessions_as_always(dsn: str) -> None:
    """The tests' own server gives each connection its session: two more for each edge are a fifth of its start."""


async def _until_idle(server: EdgeServer) -> None:
    """Let an edge that serves nobody any more end at once: uvicorn would first wait 0.1 s for its connections.

    One that still has connections, or that the test itself told to shut down, shuts down as uvicorn does.
    """
    for _ in range(IDLE_CHECKS_MAX):
        if not server.server_state.connections and not server.server_state.tasks:
            break
        await asyncio.sleep(0.001)
    else:
        return

    async def shutdown(sockets: list[socket.socket] | None = None) -> None:
        for listening in (*server.servers, *(sockets or ())):
            listening.close()
        await server.lifespan.shutdown()

    server.shutdown = shutdown  # type: ignore[method-assign]


async def _until_connected(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            async with http.get(f"{url}/readyz") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.01)
