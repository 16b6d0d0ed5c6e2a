"""Talks to one vendor's cloud as its manifest says: proves who it is, asks for JSON, gives up politely.

Every request goes outwards only (`schemas.egress`), follows no redirect, has a deadline and a bound for the answer.
429 and 503 are waited for as `Retry-After` says, other failures of the server are tried again a few times; what
remains is a VendorError, whose text is a sentence for whoever looks after the connector. It never holds a secret.
"""

import asyncio
import base64
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from schemas.cloud import Credentials
from schemas.egress import EgressError, EgressPolicy, check_url, guarded_connector
from schemas.manifests import ApiKey, AuthorizationCode, Basic, Bearer, ClientCredentials, Manifest, filled

ANSWER_BYTES_MAX = 32 * 1024 * 1024
REQUEST_S = 30.0
ATTEMPTS = 3
WAIT_MAX_S = 60.0
"""A vendor that asks for more patience than this is asked again with the next run."""
WAITS_MAX = 5
RETRY_AFTER_MAX_S = 86400.0
TOKEN_LIFE_S = 3600.0
"""Of a token that does not say."""
TOKEN_LIFE_MAX_S = 365 * 86400.0
KIND_CHARACTERS_MAX = 60
RENEW_S = 60.0
"""A token is renewed this long before it expires."""
USER_AGENT = "fleetgate"


class VendorError(Exception):
    """The vendor's cloud did not give what was asked for; the text says why, in words."""

    def __init__(self, sentence: str, *, unauthorized: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.unauthorized = unauthorized
        self.retry_after_s = retry_after_s


class _Token(Struct):
    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None


class Vendor:
    """One connector's session with its vendor. `keep` is given the credentials whenever a token was got."""

    def __init__(
        self,
        manifest: Manifest,
        settings: Mapping[str, str],
        credentials: Credentials,
        policy: EgressPolicy,
        keep: Callable[[Credentials], Awaitable[None]],
    ) -> None:
        self.manifest = manifest
        self.credentials = credentials
        self._keep = keep
        defaults = {
            name: field.default
            for name, field in (manifest.settings | manifest.credentials).items()
            if field.default is not None
        }
        self.values = {**defaults, **settings, **credentials.entered}
        self._policy = policy
        self._http = aiohttp.ClientSession(
            connector=guarded_connector(policy, limit=4),
            timeout=aiohttp.ClientTimeout(total=REQUEST_S),
            headers={"User-Agent": USER_AGENT},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )
        self._next_at = 0.0

    async def close(self) -> None:
        await self._http.close()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        body: Any = None,
    ) -> tuple[Any, Mapping[str, str]]:
        """One authenticated request; the decoded JSON and the headers of the answer. Raises VendorError."""
        proof = await self._proof()
        sent = {"Accept": "application/json", **headers, **proof}
        data = None if body is None else msgspec.json.encode(body)
        if data is not None:
            sent["Content-Type"] = "application/json"
        try:
            return await self._patiently(method, url, query, sent, data)
        except VendorError as error:
            if not error.unauthorized or not self._renewable():
                raise
        # A token may end before its time: one more attempt with a new one.
        self.credentials.expires_at = 0.0
        self.credentials.access_token = ""
        return await self._patiently(method, url, query, sent | await self._proof(), data)

    def url(self, path: str, values: Mapping[str, str] = {}) -> str:
        """The URL of a path of the manifest."""
        known = {**self.values, **values}
        if path.startswith(("https://", "http://")):
            return filled(path, known)
        return filled(self.manifest.base_url, known).rstrip("/") + filled(path, known)

    # How it is proven

    def _renewable(self) -> bool:
        kind = self.manifest.authentication
        return isinstance(kind, ClientCredentials) or (
            isinstance(kind, AuthorizationCode) and bool(self.credentials.refresh_token)
        )

    async def _proof(self) -> dict[str, str]:
        kind = self.manifest.authentication
        match kind:
            case ApiKey():
                return {kind.header: self._header(kind.value)}
            case Basic():
                pair = f"{filled(kind.user, self.values)}:{filled(kind.password, self.values)}"
                return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
            case Bearer():
                return {"Authorization": "Bearer " + self._header(kind.token)}
            case ClientCredentials():
                if not self._fresh():
                    form = {"grant_type": "client_credentials"}
                    await self._get_token(kind, form | ({"scope": kind.scope} if kind.scope else {}))
            case AuthorizationCode():
                if not self._fresh():
                    await self._get_token(kind, self._grant())
        return {"Authorization": f"Bearer {self.credentials.access_token}"}

    def _header(self, text: str) -> str:
        value = filled(text, self.values)
        if not value.isprintable():
            raise VendorError("A credential has characters that no header can hold", unauthorized=True)
        return value

    def _fresh(self) -> bool:
        return bool(self.credentials.access_token) and time.time() < self.credentials.expires_at - RENEW_S

    def _grant(self) -> dict[str, str]:
        known = self.credentials
        if known.code:
            form = {"grant_type": "authorization_code", "code": known.code, "redirect_uri": known.redirect_uri}
            return form | {"code_verifier": known.verifier}
        if known.refresh_token:
            return {"grant_type": "refresh_token", "refresh_token": known.refresh_token}
        raise VendorError("The consent has ended: authenticate again", unauthorized=True)

    async def _get_token(self, kind: ClientCredentials | AuthorizationCode, form: dict[str, str]) -> None:
        client = {name: filled(getattr(kind, name), self.values) for name in ("client_id", "client_secret")}
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        form |= {name: filled(value, self.values) for name, value in kind.parameters.items()}
        if kind.client == "basic":
            pair = ":".join(client.values())
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form |= client
        url = filled(kind.token_url, self.values)
        try:
            answer, _ = await self._patiently("POST", url, {}, headers, urlencode(form).encode())
            token = msgspec.convert(answer, _Token, strict=False)
        except msgspec.ValidationError:
            raise VendorError("The token endpoint answered without a token", unauthorized=True) from None
        except VendorError as error:
            # By RFC 6749 a refused grant is 400.
            refused = error.unauthorized or "answered 400" in str(error)
            raise VendorError(f"No token: {error}", unauthorized=refused, retry_after_s=error.retry_after_s) from None
        known = self.credentials
        known.access_token, known.code, known.verifier = token.access_token, "", ""
        known.refresh_token = token.refresh_token or known.refresh_token
        told = TOKEN_LIFE_S if token.expires_in is None else token.expires_in
        known.expires_at = time.time() + (told if 0 <= told <= TOKEN_LIFE_MAX_S else TOKEN_LIFE_S)
        await self._keep(known)

    # One request, however often it must be made

    async def _patiently(
        self, method: str, url: str, query: Mapping[str, str], headers: Mapping[str, str], data: bytes | None
    ) -> tuple[Any, Mapping[str, str]]:
        waits = failures = 0
        while True:
            await self._pace()
            status, told, body = await self._once(method, url, query, headers, data)
            if status in (429, 503) and waits < WAITS_MAX:
                wait_s = retry_after_s(told.get("Retry-After")) or 2.0**waits
                if wait_s > WAIT_MAX_S:
                    raise VendorError(f"The vendor asks for a pause of {wait_s:.0f} s", retry_after_s=wait_s)
                waits += 1
                await asyncio.sleep(wait_s)
                continue
            if status >= 500 and failures + 1 < ATTEMPTS:
                failures += 1
                await asyncio.sleep(2.0 ** (failures - 1) / 2)
                continue
            if status in (401, 403):
                raise VendorError(f"The vendor refused the credentials: it answered {status}", unauthorized=True)
            if not 200 <= status < 300:
                raise VendorError(f"The vendor answered {status} to {method} {_shown(url)}")
            try:
                return msgspec.json.decode(body), told
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                kind = told.get("Content-Type", "nothing in particular").partition(";")[0][:KIND_CHARACTERS_MAX]
                raise VendorError(f"The vendor's answer to {method} {_shown(url)} is not JSON but {kind}") from None

    async def _pace(self) -> None:
        """Keep to the rate of the manifest."""
        now = time.monotonic()
        self._next_at = max(self._next_at, now) + 1 / self.manifest.requests_per_s
        await asyncio.sleep(self._next_at - now - 1 / self.manifest.requests_per_s)

    async def _once(
        self, method: str, url: str, query: Mapping[str, str], headers: Mapping[str, str], data: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            target = check_url(url, self._policy)
            target = target.update_query(dict(query)) if query else target
            async with self._http.request(
                method, target, headers=dict(headers), data=data, allow_redirects=False
            ) as answer:
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > ANSWER_BYTES_MAX:
                        raise VendorError(f"The vendor's answer to {method} {_shown(url)} is larger than 32 MiB")
                return answer.status, answer.headers, bytes(body)
        except EgressError as error:
            raise VendorError(f"{_shown(url)} must not be connected to: {error}") from error
        except TimeoutError:
            raise VendorError(f"The vendor did not answer {method} {_shown(url)} within {REQUEST_S:.0f} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            raise VendorError(f"{method} {_shown(url)} failed: {type(cause).__name__}") from None


def _shown(url: str) -> str:
    """A URL without its query, which may hold a secret."""
    return re.split("[?#]", url, maxsplit=1)[0]


def retry_after_s(text: str | None) -> float | None:
    """Seconds of a Retry-After header, a day at most; dates are vendors' own clocks, so they count as absent."""
    if text is None or not (text.isascii() and text.strip().isdigit()):
        return None
    return min(float(text), RETRY_AFTER_MAX_S)


def joined(base: str, reference: str) -> str:
    """A URL that a vendor named, from where it named it. Raises VendorError when it leads to another host."""
    try:
        here, there = URL(base), URL(base).join(URL(reference))
        elsewhere = (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port)
    except ValueError:
        raise VendorError("The vendor named a next page that is not a URL") from None
    if elsewhere:
        raise VendorError(f"The vendor sends the list on to another host ({there.host}): credentials stay here")
    return str(there)
