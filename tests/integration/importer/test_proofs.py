"""How vendors want requests to be proven: logins of their own, steps behind a token, signatures."""

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from imports import Imports
from vendors import manifest

BEARER = 'kind = "bearer"\ntoken = "{token}"'
LOGIN = 'kind = "login"\npath = "/login"\n'


def _write(imports: Imports, authentication: str, *changes: tuple[str, str]) -> None:
    text = manifest("none")
    for was, now in ((BEARER, authentication), *changes):
        assert was in text
        text = text.replace(was, now)
    (imports.cloud.folder / "acme.toml").write_text(text)


class Logins:
    """A cloud with a login: each token is another, and is good for requests that have it in `header`."""

    def __init__(self, header: str = "Authorization", value: str = "Bearer {}") -> None:
        self.header, self.value = header, value
        self.logins: list[Any] = []
        self.answer: Any = lambda token: web.json_response({"data": {"key": token}})
        self.refuses = 0
        self.more: Any = lambda request: None

    async def __call__(self, request: web.Request, _: int) -> web.StreamResponse:
        if request.path == "/login":
            self.logins.append((request.method, request.content_type, await request.text()))
            found: web.StreamResponse = self.answer(f"t{len(self.logins)}")
            return found
        good = request.headers.get(self.header) == self.value.format(f"t{len(self.logins)}")
        if not good or self.refuses:
            self.refuses -= good
            return web.json_response({"error": "who are you"}, status=401)
        answer: web.StreamResponse | None = self.more(request)
        return answer or web.json_response({"devices": [{"id": "one"}]})


async def _synced(imports: Imports, cloud: Any) -> dict[str, Any]:
    async def before(request: web.Request, count: int) -> web.StreamResponse:
        found: web.StreamResponse = await cloud(request, count)
        return found

    imports.cloud.before = before
    return await imports.sync(await imports.connector())


async def test_a_login_of_the_vendors_own(imports: Imports) -> None:
    """User and password as JSON; the token comes under its own name, and goes into a header of its own."""
    body = 'token = "data.key"\nheader = "X-Session"\nvalue = "{token}"\n'
    body += '[authentication.body]\nuser = "me"\nlogin = {password = "{token}"}'
    _write(imports, LOGIN.replace("{token}", "") + body)
    cloud = Logins("X-Session", "{}")
    assert (await _synced(imports, cloud))["created"] == 1
    assert cloud.logins == [("POST", "application/json", '{"user":"me","login":{"password":"s3cret"}}')]


async def test_a_login_by_form_with_the_token_in_a_header(imports: Imports) -> None:
    """Its answer has no content."""
    _write(imports, LOGIN + 'token_header = "X-Auth"\nform = {user = "me", password = "{token}"}')
    cloud = Logins()
    cloud.answer = lambda token: web.Response(status=204, headers={"X-Auth": token})
    assert (await _synced(imports, cloud))["created"] == 1
    assert cloud.logins == [("POST", "application/x-www-form-urlencoded", "user=me&password=s3cret")]


@pytest.mark.parametrize(
    ("life", "renewed"),
    [
        (3600, False),
        ("3600", False),
        (0, True),
        (50, False),
        (lambda: time.time() + 3600, False),
        (lambda: int((time.time() + 3600) * 1000), False),
        (lambda: time.time() - 5, True),
        (lambda: (datetime.now(UTC) - timedelta(seconds=5)).isoformat(), True),
        (lambda: (datetime.now(UTC) + timedelta(hours=5)).isoformat(), False),
        ("soon", False),
        (None, False),
    ],
)
async def test_a_token_lives_as_long_as_the_vendor_says(imports: Imports, life: Any, renewed: bool) -> None:
    """Seconds, or the moment at which it ends, however that is written; a short one serves for several requests."""
    _write(imports, LOGIN + 'token = "t"\nlifetime = "life"')
    cloud = Logins()
    cloud.answer = lambda token: web.json_response({"t": token, "life": life() if callable(life) else life})
    run = await _synced(imports, cloud)
    assert run["error"] is None
    connector = await imports.pool.fetchval("SELECT id FROM cloud_connectors")
    logins = len(cloud.logins)
    await imports.sync(connector)
    assert (len(cloud.logins) > logins) == renewed


async def test_a_token_of_a_login_that_ends_early_is_got_again(imports: Imports) -> None:
    _write(imports, LOGIN + 'token = "data.key"')
    cloud = Logins()
    cloud.refuses = 1
    assert (await _synced(imports, cloud))["created"] == 1
    assert len(cloud.logins) == 2


@pytest.mark.parametrize("answer", [{"status": 401}, {"status": 403}, {"status": 400}, {"text": "{}"}, {"text": "no"}])
async def test_a_login_that_is_refused_is_an_error_at_once(imports: Imports, answer: dict[str, Any]) -> None:
    """Somebody has to enter other credentials."""
    _write(imports, LOGIN + 'token = "data.key"')
    cloud = Logins()
    cloud.answer = lambda _: web.Response(content_type="application/json", **answer)
    assert "oken" in (await _synced(imports, cloud))["error"]
    shown = await imports.shown(await imports.pool.fetchval("SELECT id FROM cloud_connectors"))
    assert (shown["status"], shown["next_sync_at"]) == ("Error", None)


STEPS = """token = "data.key"
[[authentication.steps]]
method = "PUT"
path = "/session/network"
body = {name = "HQ"}
[[authentication.steps]]
path = "/accounts"
values = {account = "accounts[0].id"}
[[authentication.steps]]
method = "POST"
path = "/accounts/{account}/token"
values = {token = "token"}"""


async def test_steps_behind_the_token(imports: Imports) -> None:
    """One chooses, one finds what is part of the address, one changes the token; once for each token."""
    asked: list[str] = []

    def more(request: web.Request) -> web.StreamResponse | None:
        asked.append(f"{request.method} {request.path}")
        if request.path == "/accounts":
            return web.json_response({"accounts": [{"id": 7}]})
        return web.Response(status=204) if request.path == "/session/network" else None

    _write(imports, LOGIN + STEPS, ('path = "/devices"', 'path = "/accounts/{account}/devices"'))
    cloud = Logins()
    cloud.more = more

    async def before(request: web.Request, count: int) -> web.StreamResponse:
        if request.path == "/accounts/7/token":
            asked.append(f"{request.method} {request.path}")
            return web.json_response({"token": "second"})
        if request.path == "/accounts/7/devices":
            assert request.headers["Authorization"] == "Bearer second"
            asked.append(f"{request.method} {request.path}")
            return web.json_response({"devices": [{"id": "one"}]})
        return await cloud(request, count)

    run = await _synced(imports, before)
    assert (run["error"], run["created"]) == (None, 1)
    steps = ["PUT /session/network", "GET /accounts", "POST /accounts/7/token"]
    assert asked == [*steps, "GET /accounts/7/devices"]
    connector = await imports.pool.fetchval("SELECT id FROM cloud_connectors")
    assert (await imports.sync(connector))["error"] is None
    assert asked == [*steps, "GET /accounts/7/devices", "GET /accounts/7/devices"]


async def test_a_step_that_fails_is_named_and_made_again(imports: Imports) -> None:
    """The token is kept: the next run goes on behind it, and gets another if the vendor no longer knows it."""
    fails = True
    _write(imports, LOGIN + 'token = "data.key"\n[[authentication.steps]]\npath = "/choose"\nvalues = {x = "x"}')
    cloud = Logins()
    cloud.more = lambda request: web.json_response({} if fails else {"x": "y"}) if request.path == "/choose" else None
    run = await _synced(imports, cloud)
    assert "Step 1 behind the token: the vendor's answer has no x at `x`" in run["error"]
    connector = await imports.pool.fetchval("SELECT id FROM cloud_connectors")
    await imports.sync(connector)
    assert len(cloud.logins) == 1
    fails, cloud.refuses = False, 1
    assert (await imports.sync(connector))["created"] == 1
    assert len(cloud.logins) == 2


@pytest.mark.parametrize(
    ("encoding", "algorithm", "more", "body"),
    [
        ("hex", "sha256", 'query = {site = "a b/ü", to = "1+1"}', b""),
        ("base64", "sha512", 'method = "POST"\n[list.body]\nx = 1', b'{"x":1}'),
    ],
)
async def test_each_request_is_signed(imports: Imports, encoding: str, algorithm: str, more: str, body: bytes) -> None:
    """Method, path, query as it is sent, time and body; a receiver that computes the same is satisfied."""
    authentication = f'''kind = "hmac"
secret = "{{token}}"
text = "{{method}}\\n{{path}}\\n{{query}}\\n{{timestamp}}\\n{{nonce}}\\n{{body_sha256}}"
encoding = "{encoding}"
algorithm = "{algorithm}"
[authentication.headers]
X-Key = "me"
X-Time = "{{timestamp}}"
X-Nonce = "{{nonce}}"
X-Signature = "v1={{signature}}"'''
    _write(imports, authentication, ('items = "devices"', f'items = "devices"\n{more}'))
    nonces = set()

    async def before(request: web.Request, _: int) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        sent = await request.read()
        sha = hashlib.sha256(sent).hexdigest()
        headers = request.headers
        text = "\n".join((request.method, path, query, headers["X-Time"], headers["X-Nonce"], sha))
        made = hmac.digest(imports.cloud.token.encode(), text.encode(), algorithm)
        wanted = made.hex() if encoding == "hex" else base64.b64encode(made).decode()
        nonces.add(headers["X-Nonce"])
        good = headers["X-Signature"] == f"v1={wanted}" and abs(time.time() - int(headers["X-Time"])) < 60
        return web.json_response({"devices": [{"id": "one"}]}, status=200 if good and sent == body else 401)

    assert (await _synced(imports, before))["created"] == 1
    await imports.sync(await imports.pool.fetchval("SELECT id FROM cloud_connectors"))
    assert len(nonces) == 2


async def test_a_secret_that_is_not_in_its_coding_is_told_so(imports: Imports) -> None:
    kind = 'kind = "hmac"\nsecret = "{token}"\nsecret_encoding = "hex"\ntext = "x"\nheaders = {X = "{signature}"}'
    _write(imports, kind)
    assert "The secret is not hex" in (await imports.sync(await imports.connector()))["error"]
