"""The socket that edges accept connections on: `fleetgate up` opens it for them, and needs nothing else of an edge."""

import socket
import sys

BACKLOG = 4096
PROBE_AFTER_S, PROBES, PROBE_EVERY_S = 60, 4, 15
"""When the kernel asks whether a silent peer is still there: an open stream may have nothing to say for days."""
PORT_MAX = 65_535


def bind(address: str) -> socket.socket:
    """A listening socket on host:port. Raises OSError when the port is taken, ValueError when it is not host:port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > PORT_MAX:
        # No host would mean every interface: whoever wants that says 0.0.0.0.
        raise ValueError(f"{address} is not host:port")
    host = host.strip("[]")
    # The protocol by name: asyncio turns Nagle's algorithm off only for sockets that say they are TCP.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections that are accepted have what their listener has.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":  # elsewhere the system's own times, two hours as a rule
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S)
    listener.bind((host, int(port)))
    listener.listen(BACKLOG)
    return listener
