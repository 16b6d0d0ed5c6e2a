"""Connections to users' URLs go outwards only, whatever a name leads to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from schemas.egress import EgressError, EgressPolicy, GuardedResolver, check_url
from tests.unit.lookups import Answers
from workers.egress import Dialer, Origin, guarded_connector


@pytest.fixture
async def inside() -> AsyncIterator[tuple[int, list[str]]]:
    """A server on loopback, which nobody must reach; its port, and the requests that reached it."""
    reached: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1], reached
    await runner.cleanup()


Reach = Callable[[EgressPolicy, GuardedResolver | None, str], Awaitable[None]]
"""Connects to where a URL leads, and asks for its path."""


async def by_dialer(policy: EgressPolicy, resolver: GuardedResolver | None, url: str) -> None:
    connected = await Dialer(policy, resolver).dial(Origin.of_url(URL(url)), Asking)
    connected.ask(URL(url).raw_path)
    await connected.answered


class Asking(asyncio.Protocol):
    def __init__(self) -> None:
        self.answered = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, path: str) -> None:
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.transport.abort()
        self.answered.set_result(data)


async def by_aiohttp(policy: EgressPolicy, resolver: GuardedResolver | None, url: str) -> None:
    async with aiohttp.ClientSession(
        connector=guarded_connector(policy, resolver or GuardedResolver(policy))
    ) as session:
        try:
            await session.get(url, allow_redirects=False)
        except aiohttp.ClientConnectorError as error:
            raise error.os_error from None


@pytest.fixture(params=[by_dialer, by_aiohttp])
def reach(request: pytest.FixtureRequest) -> Reach:
    """Both ways out."""
    return request.param


@pytest.mark.parametrize("answer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "64:ff9b::7f00:1"])
async def test_a_name_that_leads_inward_is_not_connected_to(
    inside: tuple[int, list[str]], reach: Reach, answer: str
) -> None:
    """What counts is the address, not the name."""
    port, reached = inside
    policy = EgressPolicy(http=True)
    with pytest.raises(EgressError):
        await reach(policy, Answers(policy, [answer]), f"http://harmless.example:{port}/")
    assert reached == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_an_address_in_the_url_is_judged_when_connecting_too(
    inside: tuple[int, list[str]], reach: Reach, host: str
) -> None:
    """This is a guard of its own: it does not rely on the URL having been checked."""
    port, reached = inside
    with pytest.raises(EgressError):
        await reach(EgressPolicy(http=True), None, f"http://{host}:{port}/")
    assert reached == []


async def test_an_answer_that_changes_after_the_check_leads_nowhere(
    inside: tuple[int, list[str]], reach: Reach
) -> None:
    """The name is good when it is checked and leads inward when it is connected to."""
    port, reached = inside
    policy = EgressPolicy(http=True)
    resolver = Answers(policy, ["8.8.8.8"], ["127.0.0.1"])
    url = check_url(f"http://rebinding.example:{port}/", policy)
    await resolver.resolve(url.raw_host or "", port)
    with pytest.raises(EgressError):
        await reach(policy, resolver, str(url))
    assert (reached, resolver.lookups) == ([], 2)


async def test_of_several_addresses_only_the_permitted_are_connected_to(
    inside: tuple[int, list[str]], reach: Reach
) -> None:
    """One look-up, whose refused answers are left out."""
    port, reached = inside
    policy = EgressPolicy("127.0.0.1/32", http=True)
    resolver = Answers(policy, ["127.0.0.2", "127.0.0.1"])
    await reach(policy, resolver, f"http://two.example:{port}/x")
    assert (reached, resolver.lookups) == (["/x"], 1)
