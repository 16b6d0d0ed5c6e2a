"""Where a device that registers is told to call from then on. Devices keep that, so it must be an address for them."""

import ipaddress
import re

from starlette.requests import Request

from gateway.refusals import Malformed
from gateway.services import Services
from schemas.settings import WILDCARDS

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?)(:[0-9]{1,5})?")


def hub_url(services: Services, request: Request) -> str:
    """The public URL; of an edge that has none and is bound to every address, the one that the caller used.

    Raises Malformed when a device could not keep that one either.
    """
    settings = services.settings
    if settings.public_url or settings.bind.rpartition(":")[0] not in WILDCARDS:
        return services.url
    host = request.headers.get("host", "")
    peer = "" if request.client is None else request.client.host
    match = _HOST.fullmatch(host)
    if match is None or match[1] in WILDCARDS or (_is_loopback(match[1]) and not _is_loopback(peer)):
        raise Malformed(f"Host {host!r} is no address that a device could keep: the gateway needs FLEETGATE_PUBLIC_URL")
    return f"{request.url.scheme}://{host}"


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
