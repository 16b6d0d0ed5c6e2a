"""Names of vendors' clouds: looked up as those of receivers are, within a tenant's share."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from schemas.egress import EgressPolicy
from workers import lookup_turns
from workers.importer.requests import Requests, VendorError
from workers.names import Names, NamesOfTenant

POLICY = EgressPolicy("127.0.0.0/8", http=True)


class Servers(AbstractResolver):
    """Silent for names that begin so; all others are here."""

    def __init__(self) -> None:
        self.under_way = 0
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> list[ResolveResult]:
        self.asked.append(host)
        if host.startswith("silent"):
            self.under_way += 1
            await asyncio.Event().wait()
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=6, flags=0)]

    async def close(self) -> None:
        pass


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A vendor's cloud."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response([])

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def rest(_: float) -> None:
    pass


async def read(made: Names, tenant: str, host: str, port: int) -> int:
    """One run's first request; its status."""
    requests = Requests(POLICY, NamesOfTenant(made, tenant), per_s=1000.0, rest=rest)
    try:
        target = requests.target(f"http://{host}:{port}/", {})
        return (await requests.once("GET", target, {}, None)).status
    finally:
        await requests.close()


async def test_silent_names_of_a_tenant_hold_few_look_ups_whatever_the_number_of_runs(port: int) -> None:
    """Each run ends with a sentence that says so; lists of others are read meanwhile, their names asked for once."""
    servers = Servers()
    made = Names(servers, 1.0)
    silent = [asyncio.create_task(read(made, "hostile", f"silent{n}.example", port)) for n in range(50)]
    while len(made._pending) < len(silent):
        await asyncio.sleep(0)
    made._timeout_s = 20.0
    assert await read(made, "other", "good.example", port) == 200
    assert await read(made, "other", "good.example", port) == 200
    for failed in await asyncio.gather(*silent, return_exceptions=True):
        assert isinstance(failed, VendorError)
        assert "no name server answered" in str(failed)
    assert servers.under_way == lookup_turns.OF_TENANT
    assert servers.asked.count("good.example") == 1
