"""One attempt: a POST, what became of it, and nothing else.

The deadline covers all of it, from the look-up of the name to the status line. Of the answer at most 64 KiB are read,
and only for a moment: an endless or dripping one costs its connection. No redirect is followed, no cookie kept, nothing
decompressed. Every failure of the world becomes a cause; anything else is a fault of ours and is raised.
"""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from ssl import SSLContext
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from schemas.egress import EgressError, EgressPolicy, guarded_connector
from workers.dispatcher.retry import parse_retry_after

ANSWER_BYTES_MAX = 64 * 1024
ANSWER_TIMEOUT_S = 1.0
"""How long the rest of an answer may take after its status line; the status has told all that matters."""
ANSWER_KEPT_CHARS = 256
HEADERS_MAX = 100
HEADER_BYTES_MAX = 8190


class Cause(StrEnum):
    """Why an attempt failed."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    EGRESS = "egress"
    STATUS = "status"
    PROTOCOL = "protocol"


class Answer(NamedTuple):
    """What became of an attempt. `cause` is None for a 2xx; `text` is the beginning of the answer, or the error."""

    cause: Cause | None
    status: int | None
    latency_s: float
    text: str
    retry_after_s: float | None = None


class Client:
    """Sends requests, with connections kept and shared between connectors of the same host."""

    def __init__(
        self,
        policy: EgressPolicy,
        timeout_s: float,
        *,
        tls: SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._session = aiohttp.ClientSession(
            connector=guarded_connector(policy, resolver, tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s, ceil_threshold=float("inf")),
            auto_decompress=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, url: URL, headers: CIMultiDict[str], body: bytes) -> Answer:
        """Make one attempt. Raises nothing that the receiver or the network can bring about."""
        began = time.perf_counter()
        try:
            response = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError) as error:
            return Answer(cause_of(error), None, time.perf_counter() - began, _sentence(error))
        latency_s = time.perf_counter() - began
        status = response.status
        if 200 <= status < 300 and response.content.at_eof():
            return Answer(None, status, latency_s, "")
        text = await self._read(response)
        if 200 <= status < 300:
            return Answer(None, status, latency_s, text)
        retry_after_s = parse_retry_after(response.headers.get("Retry-After"), self._clock())
        return Answer(Cause.STATUS, status, latency_s, text, retry_after_s)

    async def _read(self, response: aiohttp.ClientResponse) -> str:
        """The beginning of the answer as text. The connection is kept only if the answer ends soon."""
        read = bytearray()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while len(read) < ANSWER_BYTES_MAX and (part := await response.content.readany()):
                    read += part
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()
        return bytes(read[: 4 * ANSWER_KEPT_CHARS]).decode(errors="replace").replace("\0", "\ufffd")[:ANSWER_KEPT_CHARS]


def cause_of(error: BaseException) -> Cause:
    """The class of a failure to get an answer."""
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, EgressError):
            return Cause.EGRESS
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return Cause.DNS
    if isinstance(error, EgressError):
        return Cause.EGRESS
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
        return Cause.TLS
    if isinstance(error, TimeoutError):
        return Cause.TIMEOUT
    if isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError | OSError):
        return Cause.CONNECT
    return Cause.PROTOCOL


def _sentence(error: BaseException) -> str:
    return (str(error) or type(error).__name__).replace("\0", "\ufffd")[:ANSWER_KEPT_CHARS]
