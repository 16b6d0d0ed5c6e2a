"""Where requests to addresses that users gave us may go: outwards only.

Whoever may set a URL could otherwise make the gateway call its own machine or network (loopback, the cloud's
metadata service, the database next door). Two guards, and both must let a request pass:

* `check_url` when a URL is saved, and before it is used: its form, and the address where the host is one. A host that
  some resolver might read as a number (decimal, hexadecimal, octal, fewer than four parts) is refused by its form.
  `check_target` beside it, when it is saved: where a name leads just then.
* `workers.egress` when the connection is made: it judges the addresses that a name leads to by the same policy.

Addresses that are not global unicast are refused: loopback, private, link-local (metadata services live there), shared
(CGNAT), multicast, unspecified, documentation and benchmarking ranges, and whatever wraps an IPv4 address in an IPv6
one (mapped, compatible, 6to4, NAT64, Teredo). So are public addresses at which a cloud serves its own machines; other
clouds have theirs in ranges that are refused anyway. An operator opens ranges with `FLEETGATE_EGRESS_ALLOW`.
"""

import asyncio
import errno
import ipaddress
import re
import socket
from collections import Counter
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from schemas.settings import SettingsError

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

URL_CHARS_MAX = 2048
NAME_SERVER_TIMEOUT_S = 5.0
"""How long saving a URL waits for its name."""
LOOKUPS_MAX, LOOKUPS_OF_TENANT_MAX = 192, 8
"""Look-ups of names under way at once, and those of one tenant. Each holds a thread until the system gives up: usually
few of these threads exist, many only while name servers are silent."""

_REFUSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "168.63.129.16/32",  # Azure: the machine's agent, certificates, DNS
        "161.26.0.0/16",  # IBM Cloud: services of the private network
        "166.8.0.0/14",  # IBM Cloud: the same
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")
)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII | re.IGNORECASE)
DOTTED = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}", re.ASCII)
"""The one form of an IPv4 address that is taken as one."""


class EgressError(OSError):
    """This must not be connected to; the text is a sentence for whoever gave the URL."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EACCES, sentence)

    def __str__(self) -> str:
        return str(self.strerror)


class EgressPolicy:
    """What an operator has opened beyond https to the public internet."""

    def __init__(self, allow: str = "", *, http: bool = False) -> None:
        """`allow` lists CIDRs, separated by commas. Raises SettingsError."""
        try:
            self._allowed: tuple[Network, ...] = tuple(
                ipaddress.ip_network(part.strip()) for part in allow.split(",") if part.strip()
            )
        except ValueError as error:
            raise SettingsError(f"FLEETGATE_EGRESS_ALLOW is not a list of networks like 10.1.0.0/16: {error}") from None
        self.http = http

    def __repr__(self) -> str:
        return f"<EgressPolicy allow={','.join(map(str, self._allowed))} http={self.http}>"

    def permits(self, address: Address) -> bool:
        """Whether a connection to this address may be made."""
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return False
        if any(address in network for network in self._allowed):
            return True
        if isinstance(address, IPv4Address):
            return not any(address in network for network in _REFUSED_V4)
        return address in _GLOBAL_V6 and not any(address in network for network in _REFUSED_V6)

    def check(self, address: str) -> None:
        """Raises EgressError unless a connection to this address (as text) may be made."""
        try:
            permitted = self.permits(ipaddress.ip_address(address))
        except ValueError:
            permitted = False
        if not permitted:
            raise EgressError(f"The address {address} is not on the public internet.")


def check_url(text: str, policy: EgressPolicy, characters_max: int = URL_CHARS_MAX) -> URL:
    """The URL, in the form in which it will be requested. Raises EgressError; looks nothing up."""
    if len(text) > characters_max:
        raise EgressError(f"A URL has at most {characters_max} characters.")
    if not text.isprintable() or " " in text or "\\" in text:
        raise EgressError("The URL has characters that no URL has.")
    if "#" in text:
        raise EgressError("The URL must not have a fragment (#).")
    try:
        url = URL(text)
        host, port = url.raw_host or "", url.port
    except ValueError:
        raise EgressError("This is not a URL.") from None
    if url.scheme != "https" and not (url.scheme == "http" and policy.http):
        raise EgressError("The URL must begin with https://.")
    if "@" in re.split("[/?]", text.partition("//")[2], maxsplit=1)[0]:
        raise EgressError("The URL must not hold a user name or password: use a header for credentials.")
    if not port:
        raise EgressError("The URL's port must be between 1 and 65535.")
    if "[" in text.partition("//")[2][:1] and ":" not in host:
        raise EgressError("This is not a URL.")
    _check_host(host, policy)
    return url


def _check_host(host: str, policy: EgressPolicy) -> None:
    if ":" in host or DOTTED.fullmatch(host):
        policy.check(host)
        return
    if host == "localhost" or host.endswith(".localhost"):
        policy.check("127.0.0.1")
    if host.endswith("."):
        raise EgressError("Write the host without the dot at its end.")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise EgressError("The URL has no usable host.")
    if _NUMBER.fullmatch(labels[-1]):
        raise EgressError("A host that is an IPv4 address must be written as four decimal numbers.")


class GuardedResolver(AbstractResolver):
    """Resolves names with the system's resolver, in threads of its own, and leaves out what must not be connected to.

    The event loop's own look-ups share few threads: some names whose servers do not answer would hold up all others.
    For the same reason each tenant has a share of these threads, where a look-up says whose it is: several while there
    are plenty, and the other half of all threads is for those who have none.
    """

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._threads = ThreadPoolExecutor(LOOKUPS_MAX, "resolver")
        self._of_tenants: Counter[Hashable] = Counter()

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        *,
        tenant: Hashable | None = None,
    ) -> list[ResolveResult]:
        """The permitted addresses. Raises EgressError when the name has only others, OSError when it has none.

        OSError, too, when the tenant has its share of look-ups under way: one, while half of all threads are taken.
        """
        found = await asyncio.wrap_future(self._begin(tenant, host, port, family))
        results: list[ResolveResult] = []
        refusal = EgressError(f"{host} has no address.")
        for found_family, _, proto, _, address in found:
            text = str(address[0])
            try:
                self._policy.check(text)
            except EgressError as error:
                refusal = error
                continue
            results.append(
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=found_family,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if not results:
            raise refusal
        return results

    def _begin(self, tenant: Hashable | None, host: str, port: int, family: int) -> "Future[list[tuple[Any, ...]]]":
        """Let a thread look a name up. It holds the thread until the system gives up, whoever still waits."""
        if tenant is None:
            return self._threads.submit(self.look_up, host, port, family)
        mine, of_all = self._of_tenants[tenant], self._of_tenants.total()
        if mine >= LOOKUPS_OF_TENANT_MAX or (mine and of_all >= LOOKUPS_MAX // 2):
            raise OSError(errno.EAGAIN, "too many names are being looked up")
        loop = asyncio.get_running_loop()
        begun = self._threads.submit(self.look_up, host, port, family)
        self._of_tenants[tenant] += 1
        begun.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end, tenant))
        return begun

    def _end(self, tenant: Hashable) -> None:
        self._of_tenants[tenant] -= 1
        if not self._of_tenants[tenant]:
            del self._of_tenants[tenant]

    def look_up(self, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
        """Ask the system, in a thread. Tests answer for it."""
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)

    async def close(self) -> None:
        """Let the threads go; look-ups under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def check_target(url: URL, resolver: GuardedResolver, tenant: Hashable | None = None) -> None:
    """Raises EgressError when the URL's host is a name that leads to refused addresses only, just now.

    For the moment of saving, beside `check_url`: a name that cannot be resolved then passes, since every connection is
    judged again.
    """
    host = url.raw_host or ""
    if ":" in host or DOTTED.fullmatch(host):
        return
    try:
        async with asyncio.timeout(NAME_SERVER_TIMEOUT_S):
            await resolver.resolve(host, url.port or 0, tenant=tenant)
    except EgressError:
        raise
    except (OSError, TimeoutError, UnicodeError):
        return
