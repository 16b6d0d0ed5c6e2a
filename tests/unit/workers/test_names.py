"""Names of receivers: what silent name servers cost, and whom."""

import asyncio
import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from schemas.egress import LOOKUPS_MAX, EgressError
from workers import lookup_turns, names
from workers.names import LookupFailure, Names


class Servers(AbstractResolver):
    """Name servers that answer as a test wants; silent for names that begin so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.address = "192.0.2.1"
        self.error: Exception | None = None
        self.silent: tuple[str, ...] = ("silent",)
        self.under_way = 0

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> list[ResolveResult]:
        self.asked.append(host)
        self.under_way += 1
        try:
            if host.startswith(self.silent):
                await asyncio.Event().wait()
            if self.error is not None:
                raise self.error
            return [ResolveResult(hostname=host, host=self.address, port=port, family=2, proto=6, flags=0)]
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        pass


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
def made(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Names:
    """Names whose answers are asked for again at once, and are waited for only a moment."""
    monkeypatch.setattr(names, "KEPT_S", -1.0)
    monkeypatch.setattr(names, "MEANWHILE_S", 0.0)
    return Names(servers, 0.2)


async def address(made: Names, host: str, tenant: str = "a") -> str:
    [found] = await made.addresses(host, 443, tenant)
    return found["host"]


async def test_silent_names_of_a_tenant_hold_few_threads_and_nobody_else_up(made: Names, servers: Servers) -> None:
    """However many they are; further ones of that tenant wait for them."""
    waiting = [asyncio.create_task(made.addresses(f"silent{n}", 443, "hostile")) for n in range(400)]
    for failed in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(failed, LookupFailure)
        assert "no name server answered" in str(failed)
    assert servers.under_way == lookup_turns.OF_TENANT
    assert await address(made, "good", "other") == "192.0.2.1"
    with pytest.raises(LookupFailure):
        await address(made, "good too", "hostile")


async def test_names_without_an_answer_leave_threads_to_those_that_had_one(made: Names, servers: Servers) -> None:
    """However many tenants they belong to."""
    assert await address(made, "good") == "192.0.2.1"
    waiting = [asyncio.create_task(made.addresses(f"silent{n}", 443, n)) for n in range(200)]
    await asyncio.gather(*waiting, return_exceptions=True)
    assert servers.under_way == lookup_turns.UNANSWERED_MAX < LOOKUPS_MAX
    servers.address = "192.0.2.2"
    await address(made, "good")
    assert await address(made, "good") == "192.0.2.2"


async def test_whoever_has_no_look_up_under_way_begins_one(made: Names, servers: Servers) -> None:
    """Though names of dozens of other tenants are silent, four of each, and more wait than there are threads."""
    tenants = range(40)
    waiting = [asyncio.create_task(made.addresses(f"silent{n} of {t}", 443, t)) for t in tenants for n in range(10)]
    await asyncio.gather(*waiting, return_exceptions=True)
    assert servers.under_way < lookup_turns.SHARED_MAX + len(tenants)
    assert await address(made, "good", "newcomer") == "192.0.2.1"
    again = [asyncio.create_task(made.addresses(f"silent{n}", 443, "newcomer")) for n in range(2)]
    await asyncio.gather(*again, return_exceptions=True)
    assert servers.asked.count("silent0") + servers.asked.count("silent1") == 1


async def test_a_look_up_that_ends_lets_the_next_begin(made: Names, servers: Servers) -> None:
    """Of its tenant first; one that was given up before its turn came takes none."""
    waiting = [asyncio.create_task(made.addresses(f"silent{n}", 443, "a")) for n in range(lookup_turns.OF_TENANT)]
    while servers.under_way < lookup_turns.OF_TENANT:
        await asyncio.sleep(0)
    behind = [asyncio.create_task(made.addresses(f"good{n}", 443, "a")) for n in range(3)]
    while len(made._pending) < len(waiting) + len(behind):
        await asyncio.sleep(0)
    lookups = [lookup for lookup, _ in made._pending.values()]
    lookups[-1].cancel()
    lookups[0].cancel()
    ends = await asyncio.gather(*behind, return_exceptions=True)
    assert [type(end) for end in ends] == [list, list, asyncio.CancelledError]
    assert "good2" not in servers.asked
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not made._turns._waiting


async def test_the_last_good_answer_serves_while_name_servers_are_silent_or_busy(made: Names, servers: Servers) -> None:
    """And the next one as soon as it is there; a look-up under way is not begun again."""
    assert await address(made, "good") == "192.0.2.1"
    servers.error, servers.address = socket.gaierror(socket.EAI_AGAIN, "not now"), "192.0.2.2"
    assert await address(made, "good") == "192.0.2.1"
    servers.error = None
    await until_asked(servers, made)
    assert await address(made, "good") == "192.0.2.2"
    servers.silent = ("good",)
    asked = len(servers.asked)
    for _ in range(3):
        assert await address(made, "good") == "192.0.2.2"
    assert len(servers.asked) <= asked + 1


async def until_asked(servers: Servers, made: Names) -> None:
    """Let a look-up that was begun meanwhile end."""
    await address(made, "good")
    await asyncio.sleep(0)


async def test_an_answer_that_is_certain_is_taken(made: Names, servers: Servers) -> None:
    """There is no such name any more, or its address is refused: the last good one is forgotten."""
    for error, expected in (
        (socket.gaierror(socket.EAI_NONAME, "no such name"), LookupFailure),
        (EgressError("inside"), EgressError),
    ):
        servers.error = None
        assert await address(made, "good") == "192.0.2.1"
        servers.error = error
        await asyncio.gather(made.addresses("good", 443, "a"), return_exceptions=True)
        with pytest.raises(expected):
            await address(made, "good")


async def test_an_old_answer_is_none(made: Names, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour later nobody knows who has that address."""
    assert await address(made, "good") == "192.0.2.1"
    monkeypatch.setattr(names, "LAST_GOOD_S", -1.0)
    servers.silent = ("good",)
    with pytest.raises(LookupFailure, match="no name server answered"):
        await address(made, "good")
