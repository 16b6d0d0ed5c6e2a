"""How a cloud connector gets a vendor's credentials from someone who has no account here: a link and a passcode.

    /connect/<token>    a form: the passcode and what the manifest asks for; then, where the vendor has one, its
                        consent page (OAuth 2.0 with PKCE), which leads back to /connect/callback

Token, passcode and state are random and stored as digests. Five wrong passcodes or seven days end a link, and so does
its success. Pages hold no script and nothing from elsewhere.
"""

import base64
import hashlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from html import escape
from typing import TypeAlias
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.api import bodies
from gateway.api.dialects import PLAIN
from gateway.connect.pages import HEADERS, page_of
from gateway.refusals import Refusal
from gateway.services import Services
from gateway.stores.connectors import authorization_links as store
from gateway.stores.connectors.authorization_links import LinkedConnector
from schemas import logs
from schemas.cloud import Credentials
from schemas.constant_time import same_bytes
from schemas.manifests import catalog
from schemas.manifests.authentication import AuthorizationCode
from schemas.manifests.manifest import Manifest
from schemas.manifests.texts import filled
from schemas.postgres import Connection, PostgresAway
from schemas.secrets import VENDOR_CREDENTIALS, SecretError, Vault

log = logging.getLogger(__name__)

PATH = "/connect"
LINK_LIFE = timedelta(days=7)
CONSENT_LIFE = timedelta(minutes=30)
PASSCODE_FAILURES_MAX = 5
FORM_BYTES_MAX = 64 * 1024
ENDED = "This link does not work any more. Ask whoever sent it for a new one."
_ALPHABET = "ABCDEFGHJKMNPQRSTVWXYZ23456789"


Given: TypeAlias = dict[str, str]


class Link(Struct):
    """Where a connector is authorised, and the passcode that opens it. Both are shown this once."""

    url: str
    passcode: str
    expires_at: str


async def new_link(services: Services, connection: Connection, connector_id: str) -> Link:
    """A new link and passcode of a connector; those before end."""
    token = secrets.token_urlsafe(24)
    passcode = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(2))
    until = services.clock() + LINK_LIFE
    await store.set_link(connection, connector_id, _digest(token), _digest(connector_id, passcode), until)
    return Link(f"{services.url}{PATH}/{token}", passcode, until.isoformat())


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).digest()


async def form(services: Services, connection: Connection, request: Request, given: Given) -> Response:
    """The page behind a link."""
    found = await _by_link(services, connection, request)
    return _gone() if found is None else _form(services, found)


async def submitted(services: Services, connection: Connection, request: Request, given: Given) -> Response:
    """What was entered there."""
    found = await _by_link(services, connection, request)
    if found is None:
        return _gone()
    passcode = _digest(found.id, given.pop("passcode", "").upper().replace(" ", ""))
    if not same_bytes(passcode, found.passcode_digest):
        if await store.passcode_failed(connection, found.id) >= PASSCODE_FAILURES_MAX:
            return _gone()
        return _form(services, found, "The passcode is not right.", 403)
    manifest = _manifest(services, found)
    vault = services.settings.vault(VENDOR_CREDENTIALS)
    known = _kept(vault, found)
    for name, field in manifest.credentials.items():
        value = given.get(name) or known.entered.get(name) or field.default or ""
        if not re.fullmatch(field.pattern, value):
            return _form(services, found, f"{field.label} is missing or not as it should be.", 422)
        known.entered[name] = value
    if not isinstance(manifest.authentication, AuthorizationCode):
        fresh = Credentials(entered=known.entered)
        await store.authorise(connection, found.id, vault.seal(msgspec.json.encode(fresh), found.id))
        return _done(found)
    return await _to_consent(services, connection, found, manifest.authentication, known, vault)


async def _to_consent(
    services: Services,
    connection: Connection,
    found: LinkedConnector,
    kind: AuthorizationCode,
    known: Credentials,
    vault: Vault,
) -> Response:
    state = secrets.token_urlsafe(24)
    asked = Credentials(
        entered=known.entered,
        verifier=secrets.token_urlsafe(48),
        redirect_uri=f"{services.url}{PATH}/callback",
    )
    values = {**found.settings, **asked.entered}
    query = {
        "response_type": "code",
        "client_id": filled(kind.client_id, values),
        "redirect_uri": asked.redirect_uri,
        "state": state,
        "code_challenge": base64.urlsafe_b64encode(_digest(asked.verifier)).decode().rstrip("="),
        "code_challenge_method": "S256",
    }
    query |= {"scope": kind.scope} if kind.scope else {}
    until = services.clock() + CONSENT_LIFE
    sealed = vault.seal(msgspec.json.encode(asked), found.id)
    await store.ask_consent(connection, found.id, sealed, _digest(state), until)
    url = filled(kind.authorize_url, values)
    return RedirectResponse(f"{url}{'&' if '?' in url else '?'}{urlencode(query)}", 303, HEADERS)


async def consented(services: Services, connection: Connection, request: Request, given: Given) -> Response:
    """Where the vendor's consent page leads back to. The code is exchanged by the first run."""
    state, code = given.get("state", ""), given.get("code", "")
    found = await store.by_consent(connection, _digest(state), services.clock())
    if found is None:
        return _gone()
    if not code or len(code) > 4000:
        reason = given.get("error", "no code came with it")[:200]
        return page_of(
            "The vendor did not consent", f"It said: {escape(reason)}. Open the link again to try once more.", 422
        )
    vault = services.settings.vault(VENDOR_CREDENTIALS)
    known = _kept(vault, found)
    fresh = Credentials(entered=known.entered, code=code, verifier=known.verifier, redirect_uri=known.redirect_uri)
    await store.authorise(connection, found.id, vault.seal(msgspec.json.encode(fresh), found.id))
    return _done(found)


def _kept(vault: Vault, found: LinkedConnector) -> Credentials:
    """What was entered before; nothing, where that cannot be read any more."""
    try:
        return msgspec.json.decode(vault.open(found.credentials, found.id) or b"{}", type=Credentials)
    except SecretError:
        return Credentials()


async def _by_link(services: Services, connection: Connection, request: Request) -> LinkedConnector | None:
    """The connector of the link; None when that has ended, or the manifest is gone."""
    digest = _digest(request.path_params["token"])
    found = await store.by_link(connection, digest, services.clock(), PASSCODE_FAILURES_MAX)
    known = catalog.available(services.settings.manifests)
    return found if found is not None and found.provider in known else None


def _manifest(services: Services, found: LinkedConnector) -> Manifest:
    return catalog.available(services.settings.manifests)[found.provider]


def _form(services: Services, found: LinkedConnector, wrong: str = "", status: int = 200) -> Response:
    manifest = _manifest(services, found)
    fields = "".join(
        f"<label for={name}>{escape(field.label)}</label><input id={name} name={name} type=password autocomplete=off>"
        f"<small>{escape(field.help)}</small>"
        for name, field in manifest.credentials.items()
    )
    problem = f"<p class=wrong role=alert>{escape(wrong)}</p>" if wrong else ""
    then = "You are then asked by the vendor itself." if manifest.consents else "They are stored encrypted."
    hosts = ", ".join(dict.fromkeys(urlsplit(url).netloc for url in manifest.urls(found.settings)))
    where = f"<p>They are sent to <b>{escape(hosts)}</b>.</p>" if hosts else ""
    return page_of(
        f"Connect {escape(manifest.title)}",
        f"<p>Enter the passcode that came with this link, and the credentials for “{escape(found.name)}”. {then}</p>"
        f"{where}{problem}"
        "<form method=post><label for=passcode>Passcode</label><input id=passcode name=passcode required"
        f" autocomplete=off autofocus>{fields}<button>Connect</button></form>",
        status,
    )


def _done(found: LinkedConnector) -> Response:
    return page_of("Connected", f"“{escape(found.name)}” imports its devices now. You can close this page.", 200)


def _gone() -> Response:
    return page_of("This link has ended", ENDED, 410)


def _route(
    path: str, method: str, page: Callable[[Services, Connection, Request, Given], Awaitable[Response]]
) -> Route:
    """A page that is made in one transaction, from what the form or the query says."""

    async def serve(request: Request) -> Response:
        services: Services = request.state.services
        try:
            body = (await bodies.read(request, FORM_BYTES_MAX)).decode("utf-8", "replace")
            given = {name: values[0].strip() for name, values in parse_qs(body or request.url.query).items()}
            async with services.postgres.acquire() as connection, connection.transaction():
                return await page(services, connection, request, given)
        except Refusal as refusal:
            return page_of("That did not work", escape(refusal.text), PLAIN.status(refusal))
        except PostgresAway as error:
            logs.event(log, logging.WARNING, "postgres_unavailable", path=path, cause=str(error))
            return page_of("That did not work", "The database is away. Try again in a minute.", 503)

    return Route(path, serve, methods=[method])


ROUTES = (
    _route(f"{PATH}/callback", "GET", consented),
    _route(f"{PATH}/{{token}}", "GET", form),
    _route(f"{PATH}/{{token}}", "POST", submitted),
)
