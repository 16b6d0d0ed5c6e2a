"""The identity provider over HTTP: its discovery document, its keys, and the exchange of a code for an ID token.

Where requests go: the operator names the issuer, as the database, so its own scheme, host and port are called wherever
they are. Other hosts that its discovery document names are held to the rules of all egress (`schemas.egress`).
Redirects are not followed. Keys are fetched for each sign-in, so one that was withdrawn is good no more.
"""

import base64
import logging
import time
from typing import Any
from urllib.parse import quote_plus, urlencode

import aiohttp
import msgspec
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from msgspec import Struct
from yarl import URL

from gateway.identity import id_tokens
from gateway.identity.id_tokens import Expected, NotGenuine
from gateway.refusals import NotPermitted, Unavailable, retry_after_s
from schemas import logs
from schemas.egress import EgressPolicy, GuardedResolver, check_url
from schemas.settings import EdgeSettings

log = logging.getLogger(__name__)

AWAY = "The identity provider does not answer as it should: try again in a minute, or sign in another way"
NOT_BELIEVED = "What the identity provider answered could not be verified, so nobody was signed in: begin again"
DISCOVERY = "/.well-known/openid-configuration"
KNOWN_FOR_S = 300.0
"""So long a discovery document is good."""
TIMEOUT_S = 10.0
CALLS_MAX = 16
"""Requests to the provider under way in one edge; more wait, within the same time."""
ANSWER_BYTES_MAX = 512 * 1024


class Discovery(Struct):
    """What a provider says of itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class Attempt(Struct):
    """What binds the steps of one sign-in to each other."""

    state: str
    nonce: str
    verifier: str


class _Tokens(Struct):
    id_token: str


class IdentityProvider:
    """One provider, or none where no issuer is set."""

    def __init__(self, settings: EdgeSettings, resolver: GuardedResolver) -> None:
        self._settings = settings
        self._policy = EgressPolicy(settings.egress_allow, http=settings.egress_http)
        self._resolver = resolver
        self._sessions: dict[bool, ClientSession] = {}
        self._known: tuple[float, Discovery] | None = None

    def __bool__(self) -> bool:
        return bool(self._settings.oidc_issuer)

    async def address(self, attempt: Attempt, challenge: str, redirect_uri: str) -> str:
        """Where a browser is sent to sign in. Raises Unavailable."""
        found = await self._discovery()
        query = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": redirect_uri,
            "scope": self._settings.oidc_scopes,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in found.authorization_endpoint else "?"
        return found.authorization_endpoint + joint + urlencode(query)

    async def claims(self, code: str, attempt: Attempt, redirect_uri: str) -> dict[str, Any]:
        """What the provider says of who signed in there. Raises Unavailable, NotPermitted when it is not believed."""
        found = await self._discovery()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self._settings.oidc_client_id,
            "code_verifier": attempt.verifier,
        }
        headers = {}
        if secret := self._settings.oidc_client_secret:
            if "client_secret_basic" in found.token_endpoint_auth_methods_supported:
                pair = f"{quote_plus(self._settings.oidc_client_id)}:{quote_plus(secret)}"
                headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
            else:
                form["client_secret"] = secret
        tokens = await self._ask("POST", found.token_endpoint, _Tokens, data=form, headers=headers)
        keys = await self._ask("GET", found.jwks_uri, dict[str, Any])
        expected = Expected(self._settings.oidc_issuer, self._settings.oidc_client_id, attempt.nonce)
        try:
            return id_tokens.verify(tokens.id_token, keys, expected)
        except NotGenuine as error:
            logs.event(log, logging.WARNING, "id_token_refused", cause=str(error))
            raise NotPermitted(NOT_BELIEVED) from error

    async def _discovery(self) -> Discovery:
        now = time.monotonic()
        if self._known is not None and self._known[0] > now:
            return self._known[1]
        issuer = self._settings.oidc_issuer
        found: Discovery = await self._ask("GET", issuer.rstrip("/") + DISCOVERY, Discovery)
        if found.issuer != issuer:
            raise _away(f"it calls itself {found.issuer!r}, not as FLEETGATE_OIDC_ISSUER says")
        if not found.authorization_endpoint.startswith("https://") and not self._is_own(found.authorization_endpoint):
            raise _away("people would sign in at an address without TLS")
        self._known = (now + KNOWN_FOR_S, found)
        return found

    def _is_own(self, url: str) -> bool:
        """Whether an address is at the issuer's own scheme, host and port."""
        try:
            return URL(url).origin() == URL(self._settings.oidc_issuer).origin()
        except ValueError:
            return False

    async def _ask(self, method: str, url: str, kind: type[msgspec.Struct] | Any, **given: Any) -> Any:
        """The JSON at an address, as this type. Raises Unavailable, NotPermitted where the provider refuses."""
        try:
            own = self._is_own(url)
            address = URL(url) if own else check_url(url, self._policy)
            http = self._session(own)
            async with http.request(method, address, allow_redirects=False, **given) as answer:
                body = b""
                async for part in answer.content.iter_chunked(64 * 1024):
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:
                        raise _away(f"its answer is longer than {ANSWER_BYTES_MAX} bytes")
                if answer.status != 200:
                    cause = f"{address.path} answered {answer.status}: {body[:200].decode('utf-8', 'replace')}"
                    if method == "POST" and answer.status == 400:
                        logs.event(log, logging.WARNING, "code_refused", cause=cause)
                        raise NotPermitted(NOT_BELIEVED)
                    raise _away(cause)
            return msgspec.json.decode(body, type=kind)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            raise _away(f"{url}: {type(error).__name__} {error}") from error

    def _session(self, own: bool) -> ClientSession:
        """Connections to the issuer's own host, or to others, which are made only where egress may go."""
        if own not in self._sessions:
            connector = (
                TCPConnector(limit=CALLS_MAX)
                if own
                else TCPConnector(limit=CALLS_MAX, resolver=self._resolver, use_dns_cache=False)
            )
            self._sessions[own] = ClientSession(
                connector=connector, timeout=ClientTimeout(total=TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._sessions[own]

    async def close(self) -> None:
        """Close its connections."""
        for session in self._sessions.values():
            await session.close()


def _away(cause: str) -> Unavailable:
    """The provider is no help just now: the log says why, the page only that."""
    logs.event(log, logging.WARNING, "identity_provider_failed", cause=cause)
    return Unavailable(AWAY, retry_after_s=retry_after_s())
