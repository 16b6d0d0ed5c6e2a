"""A store of bytes that many machines share: a bucket of any S3-compatible service, or a part of one.

    put: incoming/TOKEN ──multipart upload──▶ copy to its name ──▶ delete incoming/TOKEN

Objects have their name from the start in S3, and ours is known when all bytes have come; so they go under another one
first. The copy is made by the service. What a crash leaves is found by its name, as in a folder; parts of an upload
that was never completed are the bucket's to forget (a life-cycle rule for incomplete multipart uploads).

Needs `fleetgate[s3]`. The client is Rust, with threads of its own that call back into Python; a process that ends while
they do may be aborted. So `close` waits for whatever is under way, and then a moment for the threads to fall idle.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from schemas.blobs.store import HISTORY, INCOMING, PIECE_BYTES, BlobsAway, Incoming, Listed, NoBlobError
from schemas.settings import FileStore

SCHEME = "s3://"
UPLOAD_PART_BYTES = 8 * 1024 * 1024
"""Two of them are held of each upload. S3 takes 10,000 parts: more than enough for the largest file."""
UPLOADED_AT_ONCE = 2
TIMEOUT, CONNECT_TIMEOUT = "30s", "5s"
RETRIES = 2
RETRY_TIMEOUT = timedelta(seconds=10)
IDLE_S = 0.2

T = TypeVar("T")


class S3Store:
    """A store in a bucket."""

    def __init__(self, settings: FileStore) -> None:
        bucket, _, prefix = settings.file_store.removeprefix(SCHEME).partition("/")
        self._name = settings.file_store
        options: dict[str, str] = {
            "endpoint": settings.file_store_endpoint,
            "region": settings.file_store_region,
            "access_key_id": settings.file_store_key_id,
            "secret_access_key": settings.file_store_secret,
        }
        self._client = Client(
            bucket,
            prefix=prefix.strip("/") or None,
            config={name: value for name, value in options.items() if value},  # type: ignore[arg-type]
            client_options={
                "timeout": TIMEOUT,
                "connect_timeout": CONNECT_TIMEOUT,
                "allow_http": settings.file_store_endpoint.startswith("http://"),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT},
        )
        self._under_way: set[asyncio.Future[Any]] = set()

    def __repr__(self) -> str:
        return f"<S3Store {self._name}>"

    async def put(self, incoming: Incoming) -> None:
        """See BlobStore."""
        temporary = f"{INCOMING}{secrets.token_hex(16)}"
        try:
            await self._done(
                self._client.put_async(
                    temporary, aiter(incoming), chunk_size=UPLOAD_PART_BYTES, max_concurrency=UPLOADED_AT_ONCE
                )
            )
            await self._done(self._client.copy_async(temporary, incoming.name))
        finally:
            with contextlib.suppress(BlobsAway):  # then the janitor finds it
                await self._done(self._client.delete_async(temporary))

    async def read(self, name: str, start: int, end: int) -> "S3Reading":
        """See BlobStore."""
        if start == end:
            return S3Reading(None)
        getting = self._client.get_async(name, options={"range": (start, end)})
        found = await self._done(getting, of_one=True)
        return S3Reading(found.stream(min_chunk_size=PIECE_BYTES))

    async def size(self, name: str) -> int | None:
        """See BlobStore."""
        try:
            found = await self._done(self._client.head_async(name), of_one=True)
        except NoBlobError:
            return None
        return found["size"]

    async def delete(self, name: str) -> None:
        """See BlobStore. Who reads it may be cut off."""
        await self._done(self._client.delete_async(name))

    async def list(self) -> AsyncIterator[Listed]:
        """See BlobStore."""
        async for one in self._listed(None):
            if one.name >= HISTORY:  # they come in the order of their names, those of checksums first
                break
            yield one
        async for one in self._listed(INCOMING):
            yield one

    async def _listed(self, prefix: str | None) -> AsyncIterator[Listed]:
        batches = self._client.list(prefix)
        with _translated():
            async for batch in batches:
                for one in batch:
                    yield Listed(one["path"], one["size"], one["last_modified"])

    async def close(self) -> None:
        """See BlobStore."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        await asyncio.sleep(IDLE_S)

    async def _done(self, doing: Awaitable[T], *, of_one: bool = False) -> T:
        """Wait for a call of the client, which goes on to its end also when nobody waits any more.

        Raises BlobsAway; NoBlobError for a call that is `of_one` object, which is not there.
        """
        call = asyncio.ensure_future(doing)
        self._under_way.add(call)
        call.add_done_callback(self._ended)
        with _translated(of_one=of_one):
            return await asyncio.shield(call)

    def _ended(self, call: "asyncio.Future[Any]") -> None:
        self._under_way.discard(call)
        if not call.cancelled():
            call.exception()  # whoever waited has heard of it


class S3Reading:
    """A range of an object, as it comes."""

    def __init__(self, pieces: AsyncIterator[bytes] | None) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._pieces is not None:
            with _translated():
                async for piece in self._pieces:
                    yield bytes(piece)

    async def aclose(self) -> None:
        """Let go of what was not read."""
        self._pieces = None


@contextlib.contextmanager
def _translated(*, of_one: bool = False) -> Iterator[None]:
    """What the client raises as what a store does. That something is not there may mean the bucket."""
    try:
        yield
    except (BaseError, OSError) as error:
        if of_one and isinstance(error, FileNotFoundError):
            raise NoBlobError(str(error)) from None
        raise BlobsAway(str(error)) from error
