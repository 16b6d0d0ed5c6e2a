"""Where a device that registers is told to call from then on. Devices keep that, so it must be an address for them."""

import re

from starlette.requests import Request

from gateway.refusals import Malformed
from gateway.services import Services
from schemas import hosts

_HOST = re.compile(r"(?P<name>\[[^\]]*\]|[^:]*[^:.])\.?(?P<port>:[0-9]{1,5})?")
_PORT_MAX = 65535


def hub_url(services: Services, request: Request) -> str:
    """The public URL; of an edge that has none and is bound to every address, the one that the caller used.

    Raises Malformed when a device could not keep that one either.
    """
    settings = services.settings
    if settings.public_url or not hosts.is_every_address(settings.bind.rpartition(":")[0]):
        return services.url
    told = request.headers.getlist("host")
    peer = "" if request.client is None else request.client.host
    match = _HOST.fullmatch(told[0]) if len(told) == 1 else None
    if match is None or not _can_be_kept(match["name"], match["port"] or "", peer):
        host = ", ".join(told)
        raise Malformed(f"Host {host!r} is no address that a device could keep: the gateway needs FLEETGATE_PUBLIC_URL")
    return f"{request.url.scheme}://{match['name']}{match['port'] or ''}"


def _can_be_kept(name: str, port: str, peer: str) -> bool:
    if port and not 1 <= int(port[1:]) <= _PORT_MAX:
        return False
    return hosts.can_be_called(name) and (hosts.is_loopback(peer) or not hosts.is_loopback(name))
