"""Requests to users' URLs go outwards only, however the address is written or looked up."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from schemas.egress import (
    Dialer,
    EgressError,
    EgressPolicy,
    GuardedResolver,
    Origin,
    check_target,
    check_url,
    guarded_connector,
)
from schemas.settings import SettingsError

REFUSED = [
    "http://example.com/",
    "ftp://example.com/",
    "//example.com/",
    "https://",
    "https:///path",
    "https://a..b/",
    "https://user:word@example.com/",
    "https://@example.com/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:1:2/",
    "https://example.com/#part",
    "https://example.com\\@127.0.0.1/",
    "https://exa mple.com/",
    "https://example.com/\r\nHost: other",
    "https://example.com/\0",
    "https://example.com./",
    "https://[v1.x]/",
    f"https://{'a' * 64}.com/",
    f"https://example.com/{'a' * 2048}",
    # Loopback and its disguises
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://127.0.0.1./",
    "https://１２７.０.０.１/",
    "https://①②⑦.0.0.1/",
    "https://127。0。0。1/",
    "https://%31%32%37.0.0.1/",
    "https://localhost/",
    "https://db.localhost/",
    "https://0/",
    "https://0.0.0.0/",
    "https://[::]/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::127.0.0.1]/",
    # Networks that are not the internet
    "https://10.0.0.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://192.0.0.8/",
    "https://192.0.2.1/",
    "https://192.88.99.1/",
    "https://198.18.0.1/",
    "https://198.51.100.1/",
    "https://203.0.113.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[2606:4700::1111%25eth0]/",
    "https://[ff02::1]/",
    "https://[100::1]/",
    "https://[2001:db8::1]/",
    "https://[2001::1]/",
    "https://[2002:7f00:1::]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
]


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_leads_inward_or_has_a_strange_form_is_refused(url: str) -> None:
    """Each is told in a sentence, and none raises anything else."""
    with pytest.raises(EgressError, match=r"\.$"):
        check_url(url, EgressPolicy())


@pytest.mark.parametrize(
    ("url", "requested"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM/Path?q=1", "https://example.com/Path?q=1"),
        ("https://8.8.8.8:8443/", "https://8.8.8.8:8443/"),
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
        ("https://例え.jp/", "https://xn--r8jz45g.jp/"),
        ("https://127.0.0.1.example.com/", "https://127.0.0.1.example.com/"),
    ],
)
def test_a_url_to_the_internet_passes(url: str, requested: str) -> None:
    """In the form in which it is requested."""
    assert str(check_url(url, EgressPolicy())) == requested


def test_an_operator_opens_ranges_and_http_on_purpose() -> None:
    """Only what was named: the wrapped forms of an allowed address stay closed."""
    policy = EgressPolicy("127.0.0.0/8, fd00::/8", http=True)
    for url in ("http://127.0.0.1:8000/", "https://localhost/", "https://[fd00::1]/"):
        check_url(url, policy)
    for url in ("http://10.0.0.1/", "http://[::ffff:127.0.0.1]/", "https://2130706433/", "https://[fd00::1%25lo]/"):
        with pytest.raises(EgressError):
            check_url(url, policy)
    with pytest.raises(SettingsError, match="FLEETGATE_EGRESS_ALLOW"):
        EgressPolicy("10.0.0.1/8")


class Answers(GuardedResolver):
    """A resolver whose look-ups are told in advance; after the last answer it repeats it."""

    def __init__(self, policy: EgressPolicy, *answers: list[str]) -> None:
        super().__init__(policy)
        self.answers = list(answers)
        self.lookups = 0

    def look_up(self, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
        self.lookups += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        kinds = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in answer]
        return [(kind, socket.SOCK_STREAM, 6, "", (address, port)) for kind, address in zip(kinds, answer, strict=True)]


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
    async with aiohttp.ClientSession(connector=guarded_connector(policy, resolver)) as session:
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
    await check_target(url, resolver)
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


async def test_a_name_is_looked_up_when_its_url_is_saved() -> None:
    """One that leads inward is refused; one that cannot be resolved just now is not."""
    policy = EgressPolicy()
    with pytest.raises(EgressError, match=r"10\.0\.0\.1"):
        await check_target(check_url("https://inner.example/", policy), Answers(policy, ["10.0.0.1"]))
    await check_target(check_url("https://unknown.example/", policy), Answers(policy, []))


async def test_names_that_nobody_answers_for_do_not_hold_up_others() -> None:
    """Look-ups run in threads of their own, far more of them than the event loop has."""
    policy = EgressPolicy()
    answered = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Stuck(GuardedResolver):
        def look_up(self, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
            if host != "good.example":
                asyncio.run_coroutine_threadsafe(answered.wait(), loop).result(10)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

    resolver = Stuck(policy)
    stuck = [asyncio.create_task(resolver.resolve(f"stuck{n}.example")) for n in range(40)]
    assert [found["host"] for found in await resolver.resolve("good.example")] == ["8.8.8.8"]
    answered.set()
    await asyncio.gather(*stuck)
    await resolver.close()
