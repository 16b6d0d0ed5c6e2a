"""Talks to one vendor's cloud as its manifest says: proves who it is, and asks for JSON.

A refresh token may be good for a single use, so an exchange that has begun is finished, and what it brought is kept,
even if the run is cancelled meanwhile. What an error says never holds a secret.
"""

import asyncio
import base64
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct
from yarl import URL

from schemas.cloud import Credentials
from schemas.egress import EgressPolicy
from schemas.manifests import PLACE, ApiKey, AuthorizationCode, Basic, Bearer, ClientCredentials, Manifest, filled
from workers.importer import decoding
from workers.importer.expressions import getter
from workers.importer.requests import Answer, Headers, Raw, Requests, Rest, VendorError

__all__ = ["Answer", "Headers", "Vendor", "VendorError", "joined"]

TOKEN_LIFE_S = 3600.0
"""Of a token that does not say."""
TOKEN_LIFE_MAX_S = 365 * 86400.0
RENEW_S = 60.0
"""A token is renewed this long before it expires."""
_T = TypeVar("_T")


class _Token(Struct):
    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None


async def _no_rest(_: float) -> None:
    """For a session that nothing follows."""


class Vendor:
    """One connector's session with its vendor. `keep` is given the credentials whenever a token was got."""

    def __init__(
        self,
        manifest: Manifest,
        settings: Mapping[str, str],
        credentials: Credentials,
        policy: EgressPolicy,
        keep: Callable[[Credentials], Awaitable[None]],
        *,
        rest: Rest = _no_rest,
        rested_s: float = 0.0,
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
        self._renewed = False
        self._requests = Requests(policy, per_s=manifest.requests_per_s, rest=rest, rested_s=rested_s)

    async def close(self) -> None:
        await self._requests.close()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        body: Any = None,
    ) -> Answer:
        """One authenticated request; the decoded JSON and the headers of the answer. Raises VendorError."""
        sent = {"Accept": "application/json", **headers}
        data = None if body is None else msgspec.json.encode(body)
        if data is not None:
            sent["Content-Type"] = "application/json"

        async def attempt() -> Raw:
            return await self._requests.once(method, url, query, sent | await self._proof(), data)

        try:
            return await self._requests.patiently(method, url, attempt)
        except VendorError as error:
            # 403 stands for one device as well: a new token is tried once.
            if error.status != 401 and (error.status != 403 or self._renewed):
                raise
            if not self._renewable():
                raise
        self._renewed = True
        # A token may end before its time: one more attempt with a new one.
        self.credentials.expires_at = 0.0
        self.credentials.access_token = ""
        return await self._requests.patiently(method, url, attempt)

    def url(self, path: str, values: Mapping[str, str] = {}) -> str:
        """The URL of a path of the manifest. Raises VendorError for a value that no path can hold."""
        known = {**self.values, **values}
        if not path.startswith(("https://", "http://")):
            return filled(self.manifest.base_url, known).rstrip("/") + _path(path, known)
        return _path(path, known)

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

        async def exchange() -> Raw:
            raw = await self._requests.once("POST", url, {}, headers, urlencode(form).encode())
            if 200 <= raw.status < 300:
                await self._keep_token(raw, kind)
            return raw

        try:
            await self._requests.patiently("POST", url, lambda: _to_the_end(exchange()))
        except VendorError as error:
            # By RFC 6749 a refused grant is 400.
            refused = error.unauthorized or error.status == 400
            sentence = str(error) if str(error).startswith("The token") else f"No token: {error}"
            raise VendorError(
                sentence,
                unauthorized=refused,
                retry_after_s=error.retry_after_s,
                words=error.words,
            ) from None

    async def _keep_token(self, raw: Raw, kind: ClientCredentials | AuthorizationCode) -> None:
        try:
            body = decoding.decode(raw.body, raw.headers.get("Content-Type", ""))
            if isinstance(kind, ClientCredentials):
                body = {"access_token": getter(kind.token)(body), "expires_in": getter(kind.lifetime)(body)}
            token = msgspec.convert(body, _Token, strict=False)
        except ValueError:
            raise VendorError("The token endpoint answered without a token", unauthorized=True) from None
        known = self.credentials
        known.access_token, known.code, known.verifier = token.access_token, "", ""
        known.refresh_token = token.refresh_token or known.refresh_token
        life_s = TOKEN_LIFE_S if token.expires_in is None else token.expires_in
        known.expires_at = time.time() + (life_s if 0 <= life_s <= TOKEN_LIFE_MAX_S else TOKEN_LIFE_S)
        await self._keep(known)


async def _to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Finish it even if whoever waits is cancelled; that then goes on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break  # it is raised below
    if cancelled is not None and not task.cancelled():
        task.exception()
        raise cancelled
    return task.result()


def _path(text: str, known: Mapping[str, str]) -> str:
    """A path with values filled in, each as one part of it. Raises VendorError for a value that would be another."""

    def put(found: re.Match[str]) -> str:
        value = known.get(found[1], "")
        if value in (".", ".."):
            raise VendorError("A path of the vendor's cannot hold the value . or ..")
        return quote(value, safe="")

    return PLACE.sub(put, text)


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
