"""What an identity provider says is believed only when it is the provider's, for us, for this browser, and verified."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from edges import RunningEdge, running_edge
from identity_providers import ADA, CLIENT, SECRET, Provider, key_of, running_provider, signed
from owners import Owner
from starlette.requests import Request
from visitors import Visitor, visiting

from gateway.people import by_provider
from gateway.people.by_provider import Returned
from gateway.refusals import NotPermitted

BEGIN, CALLBACK = "/openid-connect", "/openid-connect/callback"


def hmac_signed(secret: bytes) -> Callable[[dict[str, Any]], str]:
    """Tokens that are signed with a secret which others know, too."""

    def sign(claims: dict[str, Any]) -> str:
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
            for part in ({"alg": "HS256", "kid": "1"}, claims)
        ]
        mac = hmac.digest(secret, b".".join(parts), hashlib.sha256)
        return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()

    return sign


def by(key: str, key_id: str | None) -> Callable[[dict[str, Any]], str]:
    """Tokens that are signed with this key, and name that one."""
    return lambda claims: jwt.encode(claims, key_of(key), "RS256", {"kid": key_id} if key_id else None)


PUBLIC_PEM = key_of("provider").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
FALSE_CLAIMS: dict[str, dict[str, Any]] = {
    "of another attempt": {"nonce": "x"},
    "of no attempt": {"nonce": None},
    "nonce of another type": {"nonce": ["x"]},
    "for another client": {"aud": "another"},
    "for several clients": {"aud": [CLIENT, "another"]},
    "for another party": {"azp": "another"},
    "for nobody": {"aud": None},
    "of another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": int(time.time()) - 120},
    "for ever": {"exp": None},
    "of nobody": {"sub": None},
    "not verified": {"email_verified": False},
    "verified in words": {"email_verified": "true"},
    "perhaps verified": {"email_verified": None},
    "without an address": {"email": None},
    "address of another type": {"email": ["ada@example.com"]},
    "no address": {"email": "ada"},
    "address with U+0000": {"email": "a\0da@example.com"},
    "foreign domain": {"email": "ada@evil.example"},
    "longer domain": {"email": "ada@example.com.evil.example"},
    "domain below": {"email": "ada@evil.example.com"},
}
FALSE_SIGNATURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "no signature": lambda claims: jwt.encode(claims, None, "none", {"kid": "1"}),
    "public key as secret": hmac_signed(PUBLIC_PEM),
    "client's secret": hmac_signed(SECRET.encode()),
    "another's key": by("mallory", "1"),
    "unknown key": by("provider", "3"),
    "key that encrypts": by("provider", "2"),
    "cut off": lambda claims: signed(claims).rpartition(".")[0] + ".",
    "no token": lambda claims: "ï.é.x",
}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """An identity provider."""
    async with running_provider() as running:
        yield running


@pytest.fixture
async def entrance(provider: Provider, acme: Owner, dsn: str, redis_url: str) -> AsyncIterator[RunningEdge]:
    """An edge that people come to by the provider."""
    roles = f"ops=organization.admin@{acme.organization_id}"
    given = provider.settings(oidc_roles=roles, oidc_domains="example.com")
    async with running_edge(dsn, redis_url, **given) as running:
        yield running


async def way_back(entrance: RunningEdge, visitor: Visitor, back: str = "/account") -> str:
    """Begin in this browser, and sign in at the provider: the path that it leads back to."""
    jar = visitor._http
    async with jar.get(f"{entrance.url}{BEGIN}", params={"next": back}, allow_redirects=False) as answer:
        there = answer.headers["location"]
    async with jar.get(there, allow_redirects=False) as answer:
        return answer.headers["location"].removeprefix(entrance.url)


async def opened(entrance: RunningEdge, visitor: Visitor, path: str) -> tuple[int, str]:
    """Open it: the status, and where it leads."""
    async with visitor._http.get(f"{entrance.url}{path}", allow_redirects=False) as answer:
        return answer.status, answer.headers.get("location", "")


async def test_what_is_not_genuine_signs_nobody_in(entrance: RunningEdge, provider: Provider, acme: Owner) -> None:
    """Each in turn, with all else right; and nothing is left of it."""
    cases = [(name, claims, signed) for name, claims in FALSE_CLAIMS.items()]
    cases += [(name, {}, sign) for name, sign in FALSE_SIGNATURES.items()]
    for name, claims, sign in cases:
        provider.claims, provider.sign = {**ADA, **claims}, sign
        async with visiting(entrance) as visitor:
            status, page = await visitor.get(BEGIN)
            assert (name, status, "fleetgate" in visitor.cookies) == (name, 403, False), page
    assert await acme.pool.fetchval("SELECT count(*) FROM people") == 0
    provider.claims, provider.sign = dict(ADA), by("provider", None)
    async with visiting(entrance) as visitor:
        assert (await visitor.get(BEGIN))[0] == 200  # one key that signs: it need not be named


async def test_the_way_back_is_this_browsers_once(entrance: RunningEdge, provider: Provider) -> None:
    """So nobody is signed in as somebody else by a link, and no link is good again."""
    async with visiting(entrance) as ada, visiting(entrance) as mallory:
        path = await way_back(entrance, ada)
        assert (await opened(entrance, mallory, path))[0] == 403
        await way_back(entrance, mallory)  # an attempt of her own does not make it hers
        assert (await opened(entrance, mallory, path))[0] == 403
        assert (await opened(entrance, ada, path.replace("state=", "state=x")))[0] == 403
        assert provider.asked == []
        kept = ada.cookies["fleetgate-attempt"].value
        assert await opened(entrance, ada, path) == (303, "/account")
        ada._http.cookie_jar.update_cookies({"fleetgate-attempt": kept})
        assert (await opened(entrance, ada, path))[0] == 403
        assert provider.asked == ["token", "keys"]


async def test_the_way_back_ends_after_ten_minutes(entrance: RunningEdge) -> None:
    """However long the browser keeps what it was given."""
    async with visiting(entrance) as ada:
        state = (await way_back(entrance, ada)).partition("state=")[2].partition("&")[0]
        cookie = f"fleetgate-attempt={ada.cookies['fleetgate-attempt'].value}"
    request = Request({"type": "http", "headers": [(b"cookie", cookie.encode())], "state": {}})
    for minutes, begun in ((11, False), (9, True)):
        now = entrance.services.clock() + timedelta(minutes=minutes)
        later = msgspec.structs.replace(entrance.services, clock=lambda now=now: now)
        with pytest.raises(NotPermitted) as refused:
            await by_provider.finish(later, request, Returned(state=state, error="access_denied"))
        assert ("access_denied" in refused.value.text) is begun


async def test_what_comes_back_without_a_code_is_told(entrance: RunningEdge) -> None:
    """As text, whatever it says; and of another issuer it is none of this attempt."""
    async with visiting(entrance) as ada:
        state = (await way_back(entrance, ada)).partition("state=")[2].partition("&")[0]
        status, page = await ada.get(f"{CALLBACK}?state={state}&error=<b>no</b>")
        assert (status, "(&lt;b&gt;no&lt;/b&gt;)" in page) == (403, True)
        path = await way_back(entrance, ada)
        assert (await opened(entrance, ada, f"{path}&iss=https://evil.example"))[0] == 403
        for query in ("", "?state=&code=", "?state=%FF&code=%FF", f"?state={'x' * 4000}&code=y"):
            assert 400 <= (await ada.get(f"{CALLBACK}{query}"))[0] < 500, query


async def test_signing_in_there_leads_to_no_other_site(entrance: RunningEdge) -> None:
    """Whatever page was asked for."""
    for asked in ("//evil.example", "https://evil.example", "/\\evil.example", f"/{'é' * 1000}"):
        async with visiting(entrance) as ada:
            assert await opened(entrance, ada, await way_back(entrance, ada, asked)) == (303, "/"), asked


async def test_a_provider_that_is_no_help_is_a_page_that_says_so(entrance: RunningEdge, provider: Provider) -> None:
    """On the way out and on the way back; what it refuses is no fault of the page, and no outage."""
    async with visiting(entrance) as ada:
        provider.document = {"issuer": "https://evil.example"}
        status, page = await ada.get(BEGIN)
        assert (status, "The identity provider does not answer" in page) == (503, True)
        provider.document = {}
        for token_status, expected in ((400, 403), (401, 503), (302, 503), (500, 503)):
            provider.token_status = token_status
            assert (await ada.get(BEGIN))[0] == expected
        provider.token_status = 200
        provider.sign = lambda claims: "x" * 600_000
        assert (await ada.get(BEGIN))[0] == 503
        path = await way_back(entrance, ada)
        assert provider.stop is not None
        await provider.stop()
        status, page = await ada.get(path)
        assert (status, "The identity provider does not answer" in page) == (503, True)
        assert list(ada.cookies) == ["fleetgate-attempt"]


async def test_its_document_leads_no_request_inwards(acme: Owner, provider: Provider, dsn: str, redis_url: str) -> None:
    """The issuer's own host is the operator's word; others are called only where egress may go."""
    port = provider.url.rpartition(":")[2]
    async with running_provider() as inside:
        for inwards in (f"{inside.url}/token", f"http://localhost:{port}/token", "file:///etc/passwd"):
            provider.document = {"token_endpoint": inwards}
            async with running_edge(dsn, redis_url, **provider.settings()) as edge, visiting(edge) as ada:
                assert (await ada.get(BEGIN))[0] == 503
        assert provider.asked == inside.asked == []
    provider.document = {"authorization_endpoint": "http://evil.example/authorize"}
    async with running_edge(dsn, redis_url, **provider.settings()) as edge, visiting(edge) as ada:
        assert (await ada.get(BEGIN))[0] == 503
