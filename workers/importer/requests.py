"""Requests to one vendor's cloud: outwards only (`workers.egress`), no redirect, with a deadline and a bound for the
answer, at the pace of the manifest. 429 and 503 are waited for as `Retry-After` says, other failures of the server are
tried again a few times; what remains is a VendorError, whose text is a sentence for whoever looks after the connector.

A pace of more than a few seconds, and a pause that the vendor asks for, outlive the run: `rest` is told of them before
anything else happens, and `rested_s` says what was left of them.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDictProxy
from yarl import URL

from schemas.egress import EgressError, EgressPolicy, check_url
from workers.egress import guarded_connector
from workers.importer import decoding, retry_after
from workers.names import LookupFailure

ANSWER_BYTES_MAX = 32 * 1024 * 1024
REQUEST_S = 30.0
ATTEMPTS = 3
FAILED_PAUSE_S = 0.5
"""Before the second attempt; twice as long before the third."""
BUSY_PAUSE_S = 1.0
"""For a vendor that asks for patience and does not say how much; each time twice as long."""
WAIT_MAX_S = 60.0
"""A vendor that asks for more patience than this is asked again with a later run."""
WAITS_MAX = 5
REST_KEPT_S = 5.0
"""A rest that is shorter need not be remembered beyond the run."""
KIND_CHARACTERS_MAX = 60
USER_AGENT = "fleetgate"
WORDS_MAX = 300
URL_CHARACTERS_MAX = 32 * 1024
"""Some vendors carry the state of a whole query in the link to its next page."""
_MARKUP = re.compile(r"<[^>]{0,500}>")

Headers: TypeAlias = CIMultiDictProxy[str]
Rest: TypeAlias = Callable[[float], Awaitable[None]]


class VendorError(Exception):
    """The vendor's cloud did not give what was asked for; the text says why, in words.

    `words` are the vendor's own, for the person at a terminal only: they may repeat what was sent. `empty` says that
    there was an answer without a single character.
    """

    def __init__(
        self,
        sentence: str,
        *,
        unauthorized: bool = False,
        retry_after_s: float | None = None,
        status: int | None = None,
        words: str = "",
        empty: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.unauthorized = unauthorized
        self.retry_after_s = retry_after_s
        self.status = status
        self.words = words
        self.empty = empty


class Answer(NamedTuple):
    """A good answer; `body` is None without content, and where it is null."""

    body: Any
    headers: Headers
    status: int = 200


class Raw(NamedTuple):
    """Any answer."""

    status: int
    headers: Headers
    body: bytes


class Requests:
    """One run's requests to one vendor."""

    def __init__(
        self, policy: EgressPolicy, resolver: AbstractResolver, *, per_s: float, rest: Rest, rested_s: float = 0.0
    ) -> None:
        self._policy = policy
        self._every_s = 1 / per_s
        self._rest = rest
        self._next_at = time.monotonic() + rested_s
        self._http = aiohttp.ClientSession(
            connector=guarded_connector(policy, resolver, limit=4),
            timeout=aiohttp.ClientTimeout(total=REQUEST_S),
            headers={"User-Agent": USER_AGENT},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )

    async def close(self) -> None:
        await self._http.close()

    def target(self, url: str, query: Mapping[str, str]) -> URL:
        """Where a request goes. Raises VendorError where none may."""
        try:
            found = check_url(url, self._policy, URL_CHARACTERS_MAX)
            return found.update_query(dict(query)) if query else found
        except EgressError as error:
            raise VendorError(f"{shown(url)} must not be connected to: {error}") from error
        except ValueError as error:
            raise VendorError(f"{shown(url)} is not an address: {type(error).__name__}") from None

    async def patiently(self, method: str, url: str, attempt: Callable[[], Awaitable[Raw]]) -> Raw:
        """What comes of an attempt that is made until it is good. Raises VendorError."""
        waits = failures = 0
        while True:
            await self._pace()
            raw = await attempt()
            asked_s = None
            if raw.status >= 400 and raw.status != 401:
                lines, date = raw.headers.getall("Retry-After", ()), raw.headers.get("Date")
                asked_s = retry_after.seconds(lines, date, datetime.now(UTC))
            # Some say 403 or 500 to whoever comes too often: that they name a time tells it from a refusal.
            if (asked_s is not None or raw.status in (429, 503)) and waits < WAITS_MAX:
                await self._pause(asked_s or BUSY_PAUSE_S * 2.0**waits)
                waits += 1
                continue
            if raw.status >= 500 and failures + 1 < ATTEMPTS and self._every_s <= WAIT_MAX_S:
                failures += 1
                await asyncio.sleep(FAILED_PAUSE_S * 2.0 ** (failures - 1))
                continue
            _check(raw, method, url)
            return raw

    async def once(self, method: str, target: URL, headers: Mapping[str, str], data: bytes | None) -> Raw:
        """One request, whatever the answer. Raises VendorError when there is none."""
        url = str(target)
        try:
            async with self._http.request(
                method, target, headers=dict(headers), data=data, allow_redirects=False
            ) as answer:
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > ANSWER_BYTES_MAX:
                        raise VendorError(f"The vendor's answer to {method} {shown(url)} is larger than 32 MiB")
                return Raw(answer.status, answer.headers, bytes(body))
        except EgressError as error:
            raise VendorError(f"{shown(url)} must not be connected to: {error}") from error
        except TimeoutError:
            raise VendorError(f"The vendor did not answer {method} {shown(url)} within {REQUEST_S:.0f} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            if isinstance(cause, LookupFailure):
                raise VendorError(f"{method} {shown(url)} failed: the name was not found: {cause}") from None
            raise VendorError(f"{method} {shown(url)} failed: {type(cause).__name__}") from None

    async def _pause(self, wait_s: float) -> None:
        """The vendor asks for a pause. Raises VendorError for one that is too long to be waited for."""
        if wait_s >= REST_KEPT_S:
            await self._rest(wait_s)
        if wait_s > WAIT_MAX_S:
            raise VendorError(f"The vendor asks for a pause of {wait_s:.0f} s", retry_after_s=wait_s)
        await asyncio.sleep(wait_s)

    async def _pace(self) -> None:
        """Keep to the rate of the manifest, and to what was left of a rest. Raises VendorError for a long one."""
        now = time.monotonic()
        wait_s = max(self._next_at - now, 0.0)
        if wait_s > WAIT_MAX_S:
            raise VendorError(f"The vendor is to be asked again in {wait_s:.0f} s, not before", retry_after_s=wait_s)
        self._next_at = now + wait_s + self._every_s
        await asyncio.sleep(wait_s)
        if self._every_s >= REST_KEPT_S:
            await self._rest(self._every_s)


def _check(raw: Raw, method: str, url: str) -> None:
    """Raises VendorError for an answer that is none of success."""
    if raw.status in (401, 403):
        sentence = f"The vendor refused the credentials: it answered {raw.status}"
        raise VendorError(sentence, unauthorized=True, status=raw.status, words=_words(raw))
    if not 200 <= raw.status < 300:
        sentence = f"The vendor answered {raw.status} to {method} {shown(url)}"
        raise VendorError(sentence, status=raw.status, words=_words(raw))


def decoded(raw: Raw, method: str, url: str) -> Answer:
    """The JSON that a good answer holds. Raises VendorError."""
    if raw.status == 202:
        raise VendorError(f"The vendor answered 202 to {method} {shown(url)}: it is not ready", status=202)
    if raw.status == 204:
        return Answer(None, raw.headers)
    kind = raw.headers.get("Content-Type", "nothing in particular")
    try:
        return Answer(decoding.decode(raw.body, kind), raw.headers, raw.status)
    except decoding.TooLargeError as error:
        raise VendorError(f"The vendor's answer to {method} {shown(url)} is too large: {error}") from None
    except ValueError as error:
        media = kind.partition(";")[0][:KIND_CHARACTERS_MAX]
        but = f": {error}" if "json" in media else f" but {media}"
        sentence = f"The vendor's answer to {method} {shown(url)} is not JSON{but}"
        raise VendorError(sentence, words=_words(raw), empty=not raw.body) from None


def _words(raw: Raw) -> str:
    """What the vendor said, on one line."""
    text = _MARKUP.sub(" ", raw.body[: 10 * WORDS_MAX].decode("utf-8", "replace"))
    return " ".join(text.split())[:WORDS_MAX]


def shown(url: str) -> str:
    """A URL without its query, which may hold a secret."""
    return re.split("[?#]", url, maxsplit=1)[0]
