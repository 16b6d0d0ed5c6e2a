"""How a cloud connector gets a vendor's credentials from someone who has no account here: a link and a passcode.

    /connect/<token>    a form: the passcode and what the manifest asks for; then, where the vendor has one, its
                        consent page (OAuth 2.0 with PKCE), which leads back to /connect/callback

Token, passcode and state are random and stored as digests. Five wrong passcodes or seven days end a link, and so does
its success. How the pages look is the portal's (`gateway.portal.connect`).
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from gateway.services import Services
from gateway.stores.connectors import authorization_links as store
from gateway.stores.connectors.authorization_links import LinkedConnector
from schemas.cloud import Credentials
from schemas.constant_time import same_bytes
from schemas.manifests import catalog
from schemas.manifests.authentication import AuthorizationCode
from schemas.manifests.manifest import Manifest
from schemas.manifests.texts import filled
from schemas.postgres import Connection
from schemas.secrets import VENDOR_CREDENTIALS, SecretError, Vault

PATH = "/connect"
LINK_LIFE = timedelta(days=7)
CONSENT_LIFE = timedelta(minutes=30)
PASSCODE_FAILURES_MAX = 5
CODE_CHARACTERS_MAX, REASON_CHARACTERS_MAX = 4_000, 200
_ALPHABET = "ABCDEFGHJKMNPQRSTVWXYZ23456789"


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


class Field(Struct, frozen=True):
    """A credential that is asked for; one that may be left empty is kept from before, or has a default."""

    name: str
    label: str
    help: str
    may_be_empty: bool


class Question(Struct, frozen=True):
    """What the page behind a link asks, and what is wrong with what was answered."""

    vendor: str
    connector: str
    consents: bool
    """Whether the vendor itself asks then."""
    hosts: list[str]
    """Where the credentials are sent to."""
    fields: list[Field]
    wrong: str = ""
    status: int = 200


class Connected(Struct, frozen=True):
    """The connector of this name imports its devices now."""

    connector: str


class Consent(Struct, frozen=True):
    """The vendor's page that asks next."""

    url: str


class Declined(Struct, frozen=True):
    """The vendor did not consent."""

    reason: str


class Ended(Struct, frozen=True):
    """The link has ended, or never was."""


Step = Question | Connected | Consent | Declined | Ended


async def opened(services: Services, token: str) -> Step:
    """What a link asks."""
    async with services.postgres.acquire() as connection:
        found = await _by_link(services, connection, token)
    return Ended() if found is None else _question(services, found)


async def answered(services: Services, token: str, given: Mapping[str, str]) -> Step:
    """What follows from what was entered: passcode, and credentials by name."""
    async with services.postgres.acquire() as connection, connection.transaction():
        found = await _by_link(services, connection, token)
        if found is None:
            return Ended()
        passcode = _digest(found.id, given.get("passcode", "").upper().replace(" ", ""))
        if not same_bytes(passcode, found.passcode_digest):
            if await store.passcode_failed(connection, found.id) >= PASSCODE_FAILURES_MAX:
                return Ended()
            return _question(services, found, "The passcode is not right.", 403)
        manifest = _manifest(services, found)
        vault = services.settings.vault(VENDOR_CREDENTIALS)
        known = _kept(vault, found)
        for name, field in manifest.credentials.items():
            value = given.get(name) or known.entered.get(name) or field.default or ""
            if not re.fullmatch(field.pattern, value):
                return _question(services, found, f"{field.label} is missing or not as it should be.", 422)
            known.entered[name] = value
        if isinstance(manifest.authentication, AuthorizationCode):
            return await _to_consent(services, connection, found, manifest.authentication, known, vault)
        fresh = Credentials(entered=known.entered)
        await store.authorise(connection, found.id, vault.seal(msgspec.json.encode(fresh), found.id))
        return Connected(found.name)


async def _to_consent(
    services: Services,
    connection: Connection,
    found: LinkedConnector,
    kind: AuthorizationCode,
    known: Credentials,
    vault: Vault,
) -> Step:
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
    return Consent(f"{url}{'&' if '?' in url else '?'}{urlencode(query)}")


async def consented(services: Services, state: str, code: str, error: str) -> Step:
    """Where the vendor's consent page leads back to. The code is exchanged by the first run."""
    async with services.postgres.acquire() as connection, connection.transaction():
        found = await store.by_consent(connection, _digest(state), services.clock())
        if found is None:
            return Ended()
        if not code or len(code) > CODE_CHARACTERS_MAX:
            return Declined((error or "no code came with it")[:REASON_CHARACTERS_MAX])
        vault = services.settings.vault(VENDOR_CREDENTIALS)
        known = _kept(vault, found)
        fresh = Credentials(entered=known.entered, code=code, verifier=known.verifier, redirect_uri=known.redirect_uri)
        await store.authorise(connection, found.id, vault.seal(msgspec.json.encode(fresh), found.id))
        return Connected(found.name)


def _kept(vault: Vault, found: LinkedConnector) -> Credentials:
    """What was entered before; nothing, where that cannot be read any more."""
    try:
        return msgspec.json.decode(vault.open(found.credentials, found.id) or b"{}", type=Credentials)
    except SecretError:
        return Credentials()


async def _by_link(services: Services, connection: Connection, token: str) -> LinkedConnector | None:
    """The connector of the link; None when that has ended, or the manifest is gone."""
    found = await store.by_link(connection, _digest(token), services.clock(), PASSCODE_FAILURES_MAX)
    known = catalog.available(services.settings.manifests)
    return found if found is not None and found.provider in known else None


def _manifest(services: Services, found: LinkedConnector) -> Manifest:
    return catalog.available(services.settings.manifests)[found.provider]


def _question(services: Services, found: LinkedConnector, wrong: str = "", status: int = 200) -> Question:
    manifest = _manifest(services, found)
    kept = _kept(services.settings.vault(VENDOR_CREDENTIALS), found).entered
    return Question(
        vendor=manifest.title,
        connector=found.name,
        consents=manifest.consents,
        hosts=list(dict.fromkeys(urlsplit(url).netloc for url in manifest.urls(found.settings))),
        fields=[
            Field(name, field.label, field.help, bool(kept.get(name) or field.default))
            for name, field in manifest.credentials.items()
        ],
        wrong=wrong,
        status=status,
    )
