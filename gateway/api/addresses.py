"""The address that a caller is counted by: its own, or for IPv6 the network of a household or site (/64).

Behind a proxy it is what the proxy says (`X-Forwarded-For`), which uvicorn takes from the addresses in
`FORWARDED_ALLOW_IPS` only, by default this machine's. Behind a proxy that is not named there all callers share one
address, and what is limited by address (registrations, wrong claims) is one limit for everybody.
"""

import ipaddress
from collections.abc import Mapping

from starlette.requests import Request

from schemas import hosts

SITE_BITS = 64
NAMED = "FORWARDED_ALLOW_IPS"


def unnamed_proxy(environ: Mapping[str, str], *, bind: str, public_url: str, tls: bool) -> str | None:
    """A sentence for whoever runs an edge that must have a proxy before it, and does not know which; else None.

    There is one where callers use https and the edge speaks http; one on this machine is believed.
    """
    ours = hosts.is_loopback(bind.rpartition(":")[0])
    if not public_url.startswith("https://") or tls or ours or environ.get(NAMED):
        return None
    return (
        f"Callers use {public_url}, and an edge speaks http on {bind}: there is a proxy between. Where it is another "
        f"machine, all callers share its address, and the limits of that address: set {NAMED} to it"
    )


def address_of(request: Request) -> str:
    """The address as text; empty when the caller has none, as over a Unix socket."""
    host = "" if request.client is None else request.client.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:SITE_BITS]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address.packed, SITE_BITS), strict=False).network_address)
    return str(address)
