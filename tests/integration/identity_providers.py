"""A small OpenID Connect provider: it signs in whoever comes, as the person it was told, and checks what it is sent."""

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

CLIENT, SECRET = "fleet gate", "s3cret:with/odd+signs"
ADA = {"email": "ada@example.com", "email_verified": True, "name": "Ada", "groups": ["ops"]}


@cache
def key_of(name: str) -> rsa.RSAPrivateKey:
    """A key pair; making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def signed(claims: dict[str, Any]) -> str:
    """An ID token as the provider makes it."""
    return jwt.encode(claims, key_of("provider"), "RS256", {"kid": "1"})


@dataclass
class Provider:
    """One that runs."""

    url: str
    claims: dict[str, Any] = field(default_factory=lambda: dict(ADA))
    """What it says of whoever signs in; None takes a claim away."""
    sign: Callable[[dict[str, Any]], str] = signed
    document: dict[str, Any] = field(default_factory=dict)
    """What its discovery document says in place of the truth."""
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    token_status: int = 200
    stop: Callable[[], Awaitable[None]] | None = None

    async def discovery(self, request: web.Request) -> web.Response:
        """What it says of itself."""
        told = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize?tenant=1",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        return web.json_response(told | self.document)

    async def authorize(self, request: web.Request) -> web.Response:
        """Sign in, and back at once."""
        asked = dict(request.query)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert asked["scope"].startswith("openid")
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"], "iss": self.url, "session_state": "x"})
        raise web.HTTPFound(f"{asked['redirect_uri']}?{back}")

    async def token(self, request: web.Request) -> web.Response:
        """An ID token for a code, once, to the client that can prove it began."""
        self.asked.append("token")
        if self.token_status != 200:
            return web.json_response({"error": "invalid_grant"}, status=self.token_status)
        form = await request.post()
        asked = self.codes.pop(str(form["code"]))
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
        assert form["redirect_uri"] == asked["redirect_uri"]
        sent = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        assert sent == "fleet+gate:s3cret%3Awith%2Fodd%2Bsigns"
        now = int(time.time())
        subject = hashlib.sha256(str(self.claims.get("email")).lower().encode()).hexdigest()
        told = {"iss": self.url, "sub": subject, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        claims = {name: value for name, value in (told | self.claims).items() if value is not None}
        return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": self.sign(claims)})

    async def keys(self, request: web.Request) -> web.Response:
        """Its keys: the one that signs, and one that encrypts."""
        self.asked.append("keys")
        public = json.loads(RSAAlgorithm.to_jwk(key_of("provider").public_key()))
        return web.json_response({"keys": [public | {"kid": "1", "use": "sig"}, public | {"kid": "2", "use": "enc"}]})

    def settings(self, **more: Any) -> dict[str, Any]:
        """Settings of an edge that people may come to by it."""
        return {"oidc_issuer": self.url, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET} | more


@contextlib.asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    """One on an ephemeral port."""
    provider = Provider("")
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.discovery)
    app.router.add_get("/authorize", provider.authorize)
    app.router.add_post("/token", provider.token)
    app.router.add_get("/keys", provider.keys)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        provider.stop = runner.cleanup
        yield provider
    finally:
        await runner.cleanup()
