"""What a host of a URL, or of an address to bind to, stands for: this machine, every address of it, or one to call."""

import ipaddress
import re

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAME = re.compile(
    r"(?=.{1,253}$)[0-9A-Za-z_]([0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?(\.[0-9A-Za-z_]([0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?)*"
)
_NUMBER = re.compile(r"(.*\.)?([0-9]+|0[xX][0-9A-Fa-f]*)")
"""What ends so is an IPv4 address or nothing: some programs read 0, 127.1 and 0x7f000001 as one."""


def address(host: str) -> IPAddress | None:
    """The address that a host is, IPv6 with or without brackets; None for a name and for what is neither."""
    try:
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_every_address(host: str) -> bool:
    """Whether it is an address to bind to, and none to call."""
    found = address(host)
    return host == "0" if found is None else found.is_unspecified


def is_loopback(host: str) -> bool:
    """Whether it is this machine, whoever calls it."""
    found, name = address(host), host.lower()
    return name == "localhost" or name.endswith(".localhost") if found is None else found.is_loopback


def can_be_called(host: str) -> bool:
    """Whether it is a name, or the address of one machine; IPv6 in brackets, without a zone."""
    found = address(host)
    if host.startswith("["):
        return ":" in host and "%" not in host and _is_of_one_machine(found)
    if _NUMBER.fullmatch(host):
        return _is_of_one_machine(found)
    return _NAME.fullmatch(host) is not None


def _is_of_one_machine(found: IPAddress | None) -> bool:
    return found is not None and not (found.is_unspecified or found.is_multicast)
