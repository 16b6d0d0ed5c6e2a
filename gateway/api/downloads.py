"""Answers that are bytes of the file store: whole or a range, resumable, with a strong validator.

Bytes go out as the client takes them: what is read of a file, and not sent yet, is one piece and the buffer of the
connection. An answer that cannot be finished (the store is away in the middle of it) ends its connection, so that the
client knows that it has a part.
"""

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api import dialects
from gateway.api.ranges import Span, UnsatisfiableError, asked_for, is_another, is_known
from gateway.ingest.connection import ABORT
from gateway.stores.files.dumps import Part, PartsReading
from schemas import logs
from schemas.blobs.store import PIECE_BYTES, BlobsAway, BlobStore, NoBlobError, Reading

log = logging.getLogger(__name__)

CACHING = "private, no-cache"
"""It is for the caller alone, and may be kept by whoever asks each time whether it still may be had."""

MEDIA_TYPE = "application/octet-stream"
"""Of all bytes, whatever a device said that they are: nothing of a device's choice is ever rendered."""


class Content(Struct, frozen=True):
    """Some bytes of the store, and what they are called."""

    checksum: str
    """Their SHA-256, in hex; of what lies in parts, something else that is another one for other bytes."""
    size: int
    file_name: str
    parts: Sequence[Part] | None = None
    """Where they lie, if not under their checksum."""


Rest = Callable[[int, float], Awaitable[None]]
"""Waited for after so many bytes were sent, in so many seconds of this thread at most."""


class Noted(Protocol):
    """Told that a range is about to be sent, and that the last byte has been."""

    async def __call__(self, *, all_of_it: bool) -> None: ...


async def answer(
    request: Request,
    blobs: BlobStore,
    content: Content,
    end: Callable[[], None],
    rest: Rest,
    noted: Noted | None = None,
) -> Response:
    """What a GET or HEAD of these bytes is answered. `end` is called when all is sent, or nothing will be.

    Raises BlobsAway.
    """
    try:
        return await _answer(request, blobs, content, end, rest, noted)
    except BaseException:
        end()
        raise


async def _answer(
    request: Request,
    blobs: BlobStore,
    content: Content,
    end: Callable[[], None],
    rest: Rest,
    noted: Noted | None,
) -> Response:
    etag = f'"{content.checksum}"'
    headers = {"etag": etag, "accept-ranges": "bytes", "cache-control": CACHING}
    digest = f"sha-256=:{base64.b64encode(bytes.fromhex(content.checksum)).decode()}:"
    if content.parts is None:
        headers["repr-digest"] = digest
    if is_another(request.headers, etag):
        end()
        return dialects.PLAIN.error(412, "These are other bytes", {"etag": etag})
    if is_known(request.headers, etag):
        end()
        return Response(None, 304, headers)
    status, span = 200, None
    if request.method == "GET":
        try:
            span = asked_for(request.headers, content.size, etag)
        except UnsatisfiableError:
            end()
            told = {"content-range": f"bytes */{content.size}", "accept-ranges": "bytes"}
            return dialects.PLAIN.error(416, f"There are no bytes in this range: there are {content.size}", told)
    if span is None:
        span = Span(0, content.size)
        if content.parts is None:
            headers["content-digest"] = digest
    else:
        status = 206
        headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{content.size}"
    headers |= {
        "content-length": str(span.end - span.start),
        "content-type": MEDIA_TYPE,
        "content-disposition": disposition(content.file_name),
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
    }
    if request.method == "HEAD":
        end()
        return Response(None, status, headers)
    reading = await _reading(blobs, content, span)
    if noted is not None:
        await noted(all_of_it=False)
    last = noted if span.end == content.size else None
    return Download(reading, status, headers, end, rest, last, large=span.end - span.start > PIECE_BYTES)


async def _reading(blobs: BlobStore, content: Content, span: Span) -> Reading:
    if content.parts is not None:
        return PartsReading(blobs, content.parts, span.start, span.end)
    try:
        return await blobs.read(content.checksum, span.start, span.end)
    except NoBlobError as error:
        logs.event(log, logging.ERROR, "file_bytes_missing", checksum=content.checksum)
        raise BlobsAway(str(error)) from None


def disposition(file_name: str) -> str:
    """The header that makes a browser save an answer, not show it."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in file_name)
    extended = "" if plain == file_name else f"; filename*=UTF-8''{quote(file_name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


class Download(Response):
    """A part of some bytes, sent as it is read."""

    def __init__(
        self,
        reading: Reading,
        status: int,
        headers: dict[str, str],
        end: Callable[[], None],
        rest: Rest,
        noted: Noted | None,
        *,
        large: bool,
    ) -> None:
        super().__init__(None, status, headers)
        self.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        self._reading = reading
        self._end = end
        self._rest = rest
        self._noted = noted
        self._large = large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with contextlib.aclosing(self._reading):
                await self._send(scope, receive, send)
        finally:
            self._end()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with _watching(receive) if self._large else contextlib.nullcontext(_NEVER) as gone:
                pieces = aiter(self._reading)
                began_s = time.thread_time()
                while piece := await anext(pieces, b""):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    if gone.is_set():
                        return
                    await self._rest(len(piece), time.thread_time() - began_s)
                    began_s = time.thread_time()
        except BlobsAway as error:
            logs.event(log, logging.WARNING, "file_store_away", path=scope["path"], cause=str(error))
            scope["extensions"][ABORT]()
            return
        await send({"type": "http.response.body", "body": b""})
        if self._noted is not None:
            await self._noted(all_of_it=True)


_NEVER = asyncio.Event()


@contextlib.asynccontextmanager
async def _watching(receive: Receive) -> AsyncIterator[asyncio.Event]:
    """Set when the client is gone: the server takes what is sent to it all the same."""
    gone = asyncio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    watching = asyncio.create_task(watch(), name="download")
    try:
        yield gone
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
