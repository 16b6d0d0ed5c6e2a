"""The certificate of an edge that speaks TLS, renewed while it serves.

New handshakes get what the files hold, connections that stand go on with what they began with. The files are looked at
every `LOOK_S`, and on SIGHUP. A pair that does not fit together (one file was written, the other not yet) is not taken:
the last good one serves on, and the log says so once.

Each renewal makes a context of its own, to which handshakes are moved. Loaded into the one that is there, a certificate
with another kind of key (ECDSA for RSA) would stand beside the old one, which clients would still get.
"""

import asyncio
import logging
import os
import ssl

from schemas import logs

log = logging.getLogger(__name__)

LOOK_S = 2.0

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Certificate:
    """Has the handshakes of a TLS context use what its two files hold."""

    def __init__(self, context: ssl.SSLContext, certificate: str, key: str) -> None:
        self._paths = certificate, key
        self._looked_at = self._stamp()
        self._latest = context
        context.sni_callback = self._choose

    def __repr__(self) -> str:
        return f"<Certificate {self._paths[0]}>"

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._stamp() != self._looked_at:
                self.renew()

    def renew(self) -> None:
        """Take what the files hold now, if it is a certificate with its key."""
        self._looked_at = self._stamp()
        fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            fresh.load_cert_chain(*self._paths, password="")
        except (ssl.SSLError, OSError) as error:
            logs.event(log, logging.ERROR, "certificate_unusable", certificate=self._paths[0], cause=str(error))
        else:
            self._latest = fresh
            logs.event(log, logging.INFO, "certificate_renewed", certificate=self._paths[0])

    def _choose(self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        """Called by TLS at the beginning of each handshake, with or without a name."""
        handshake.context = self._latest

    def _stamp(self) -> _Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
