"""Requests to users' URLs go outwards only, however the address is written or looked up."""

import asyncio
import socket
import threading
from typing import Any

import pytest
from edges import RunningEdge
from owners import Owner
from projects import account_of

from schemas.egress import (
    LOOKUPS_OF_TENANT_MAX,
    EgressError,
    EgressPolicy,
    GuardedResolver,
    check_target,
    check_url,
)
from schemas.settings import SettingsError
from tests.unit.lookups import Answers

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
    # Where clouds serve their own machines, and the ways to write that in IPv6
    "https://168.63.129.16/",
    "https://168.63.129.16:32526/vmSettings",
    "https://[::ffff:168.63.129.16]/",
    "https://[::ffff:a83f:8110]/",
    "https://[64:ff9b::a83f:8110]/",
    "https://[2002:a83f:8110::]/",
    "https://[2002:a9fe:a9fe::]/",
    "https://[64:ff9b::169.254.169.254]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[fd20:ce::254]/",
    "https://[5f00::1]/",
    "https://100.100.100.200/",
    "https://169.254.170.2/v2/credentials",
    "https://192.0.0.192/opc/v1/",
    "https://161.26.0.6/",
    "https://166.9.0.1/",
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


async def test_a_name_is_looked_up_when_its_url_is_saved() -> None:
    """One that leads inward is refused; one that cannot be resolved just now is not, nor one with a way outward."""
    policy = EgressPolicy()
    for inward in (["10.0.0.1"], ["168.63.129.16", "fe80::1"], ["::ffff:127.0.0.1"]):
        with pytest.raises(EgressError, match="not on the public internet"):
            await check_target(check_url("https://inner.example/", policy), Answers(policy, inward))
    for passing in ([], ["8.8.8.8"], ["10.0.0.1", "8.8.8.8"]):
        await check_target(check_url("https://outer.example/", policy), Answers(policy, passing))


@pytest.mark.parametrize("host", ["inner.example", "169.254.169.254", "168.63.129.16"])
async def test_no_connector_is_saved_that_leads_inward(
    edge: RunningEdge, acme: Owner, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a data connector nor a cloud connector, neither made nor changed so, by name or by address."""

    def inward(self: GuardedResolver, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
        address = "10.0.0.1" if host == "inner.example" else "8.8.8.8"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(GuardedResolver, "look_up", inward)
    developer, url = await account_of(acme, "project.developer"), f"https://{host}/x"
    path = f"/v2/projects/{acme.project_id}/dataconnectors"
    status, answer = await developer.ask("POST", path, {"httpConfig": {"url": url}})
    assert (status, "not on the public internet" in answer["error"]) == (400, True)
    _, made = await developer.ask("POST", path, {"httpConfig": {"url": "https://outer.example/"}})
    status, answer = await developer.ask("PATCH", f"/v2/{made['name']}", {"httpConfig": {"url": url}})
    assert (status, "not on the public internet" in answer["error"]) == (400, True)
    connector = {
        "provider": "simulated",
        "project_id": str(acme.project_id),
        "space_id": str(acme.space_id),
        "settings": {"url": url},
    }
    status, error = await acme.call("POST", "/connectors", connector)
    assert (status, "not on the public internet" in error) == (422, True)
    made = await acme.call("POST", "/connectors", connector | {"settings": {"url": "https://outer.example"}})
    changed = await acme.call("PATCH", f"/connectors/{made['connector']['id']}", {"settings": {"url": url}})
    assert (changed[0], "not on the public internet" in changed[1]) == (422, True)


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


async def test_silent_name_servers_of_many_tenants_leave_threads_to_whoever_has_none() -> None:
    """Half of all threads may be taken by those who have one already; a newcomer finds one in the other half."""
    go = threading.Event()

    class Silent(GuardedResolver):
        def look_up(self, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
            if host == "silent.example":
                go.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

    resolver = Silent(EgressPolicy())
    hostile = range(40)
    waiting = [
        asyncio.create_task(resolver.resolve("silent.example", 443, tenant=tenant))
        for tenant in hostile
        for _ in range(LOOKUPS_OF_TENANT_MAX)
    ]
    try:
        assert await resolver.resolve("good.example", 443, tenant="newcomer")
        with pytest.raises(OSError, match="too many names"):
            await resolver.resolve("good.example", 443, tenant=hostile[0])
    finally:
        go.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        await resolver.close()


async def test_silent_name_servers_of_one_tenant_leave_threads_to_others() -> None:
    """A look-up holds a thread until the system gives up, and no tenant has more than its share of them."""
    go = threading.Event()

    class Silent(GuardedResolver):
        def look_up(self, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
            if host == "silent.example":
                go.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

    resolver = Silent(EgressPolicy())
    try:
        waiting = [
            asyncio.create_task(resolver.resolve("silent.example", 443, tenant="acme"))
            for _ in range(LOOKUPS_OF_TENANT_MAX)
        ]
        await asyncio.sleep(0)
        for one in waiting[:4]:
            one.cancel()  # the threads are still held
        await asyncio.sleep(0)
        with pytest.raises(OSError, match="too many names"):
            await resolver.resolve("good.example", 443, tenant="acme")
        assert await resolver.resolve("good.example", 443, tenant="globex")
        go.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        while resolver._of_tenants:
            await asyncio.sleep(0)
        assert await resolver.resolve("good.example", 443, tenant="acme")
    finally:
        go.set()
        await resolver.close()
