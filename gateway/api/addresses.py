"""The address that a caller is counted by: its own, or for IPv6 the network of a household or site (/64).

Behind a proxy it is what the proxy says (`X-Forwarded-For`), which uvicorn takes from the addresses in
`FORWARDED_ALLOW_IPS` only, by default this machine's.
"""

import ipaddress

from starlette.requests import Request

SITE_BITS = 64


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
