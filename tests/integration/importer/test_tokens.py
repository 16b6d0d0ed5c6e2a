"""Tokens that are good for a single use: none is lost, whatever happens while it is exchanged."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from aiohttp import web
from imports import Imports
from test_authorising import CONSENT, _made, _open

from schemas.cloud import Credentials
from workers.importer import leases


class Rotating:
    """A vendor that takes a refresh token once; `pause` lets a test act while it exchanges one."""

    def __init__(self, imports: Imports) -> None:
        self.imports = imports
        self.good = "r0"
        self.count = 0
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self.pausing = False
        self.verifiers: list[str] = []

    async def before(self, request: web.Request, _: int) -> Any:
        if request.path != "/token":
            return None
        form = await request.post()
        if form["grant_type"] == "authorization_code":
            self.verifiers.append(str(form.get("code_verifier", "")))
        elif form["refresh_token"] != self.good:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.count += 1
        self.good = f"r{self.count}"
        self.imports.cloud.token = f"t{self.count}"
        token = {"access_token": self.imports.cloud.token, "refresh_token": self.good, "expires_in": 3600}
        if self.pausing:
            self.reached.set()
            await self.go.wait()
        return web.json_response(token)


@pytest.fixture
async def rotating(imports: Imports) -> Any:
    """A connector with a token that has ended, and a refresh token."""
    (imports.cloud.folder / "consent.toml").write_text(CONSENT)
    imports.cloud.has("one")
    vendor = Rotating(imports)
    imports.cloud.before = vendor.before
    return vendor


async def _connector(imports: Imports) -> str:
    connector = await imports.connector(authorised=False, provider="consent")
    await imports.authorise(connector)
    credentials = Credentials(
        entered={"client_id": "me", "client_secret": "mine"}, access_token="t0", refresh_token="r0", expires_at=1.0
    )
    sealed = imports.vault.seal(msgspec.json.encode(credentials), connector)
    await imports.pool.execute("UPDATE cloud_connectors SET credentials = $2 WHERE id = $1", connector, sealed)
    return connector


async def _kept(imports: Imports, connector: str) -> Credentials:
    sealed = await imports.pool.fetchval("SELECT credentials FROM cloud_connectors WHERE id = $1", connector)
    return msgspec.json.decode(imports.vault.open(sealed, connector), type=Credentials)


@pytest.mark.parametrize("change", ["nothing", "rename", "disable", "regenerate_link", "sync", "lease"])
async def test_a_token_that_the_vendor_has_changed_is_kept_whatever_happens_meanwhile(
    imports: Imports, rotating: Rotating, change: str
) -> None:
    """The run is cancelled, as a person's change and SIGTERM do it: the exchange is finished all the same."""
    connector = await _connector(imports)
    rotating.pausing = True
    claimed = await imports.claim(connector)
    run = asyncio.ensure_future(imports.runs.run(claimed))
    await asyncio.wait_for(rotating.reached.wait(), 20)
    if change == "rename":
        await imports.acme.call("PATCH", f"/connectors/{connector}", {"name": "Another"})
    elif change == "lease":
        await imports.pool.execute("UPDATE cloud_connectors SET lease_holder = gen_random_uuid()")
    elif change != "nothing":
        await imports.acme.call("POST", f"/connectors/{connector}/{change}")
    run.cancel()
    await asyncio.sleep(0)
    run.cancel()
    rotating.go.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    kept = await _kept(imports, connector)
    assert (kept.refresh_token, kept.access_token) == ("r1", "t1")
    rotating.pausing = False
    await imports.acme.call("POST", f"/connectors/{connector}/enable")
    assert (await imports.sync(connector))["error"] is None


async def test_new_credentials_are_not_overwritten_by_a_token_for_the_old(imports: Imports, rotating: Rotating) -> None:
    """Somebody authorises while a run renews."""
    connector = await _connector(imports)
    rotating.pausing = True
    run = asyncio.ensure_future(imports.runs.run(await imports.claim(connector)))
    await asyncio.wait_for(rotating.reached.wait(), 20)
    await imports.authorise(connector, client_id="new", client_secret="new")
    rotating.go.set()
    await asyncio.gather(run, return_exceptions=True)
    kept = await _kept(imports, connector)
    assert (kept.entered["client_id"], kept.refresh_token) == ("new", "")


async def test_a_consent_that_is_passed_while_a_run_renews_has_its_verifier(
    imports: Imports, rotating: Rotating
) -> None:
    """What was entered for it lies apart, and the tokens in use stay until it is passed."""
    connector = await _connector(imports)
    link = await imports.acme.call("POST", f"/connectors/{connector}/reauthenticate")
    form = {"passcode": link["passcode"], "client_id": "other", "client_secret": "other"}
    _, _, headers = await _open(imports, urlsplit(link["url"]).path, form)
    state = parse_qs(urlsplit(headers["location"]).query)["state"][0]
    assert (await _kept(imports, connector)).entered["client_id"] == "me"
    assert (await imports.sync(connector))["error"] is None
    assert (await _kept(imports, connector)).refresh_token == "r1"
    assert (await _open(imports, f"/connect/callback?state={state}&code=c0de"))[0] == 200
    assert (await imports.sync(connector))["error"] is None
    assert len(rotating.verifiers[0]) > 40
    kept = await _kept(imports, connector)
    assert (kept.entered["client_id"], kept.refresh_token) == ("other", "r2")
    assert await imports.pool.fetchval("SELECT consent FROM cloud_connectors WHERE id = $1", connector) == b""


async def test_a_consent_that_is_not_passed_changes_nothing(imports: Imports, rotating: Rotating) -> None:
    """Somebody opened the link, entered something, and went away."""
    connector, path, passcode = await _made(imports, "consent")
    status, _, _ = await _open(imports, path, {"passcode": passcode, "client_id": "a", "client_secret": "b"})
    assert status == 303
    assert (await imports.shown(connector))["status"] == "Unauthenticated"
    assert await imports.pool.fetchval("SELECT credentials FROM cloud_connectors WHERE id = $1", connector) == b""
    assert await leases.claim(imports.pool, imports.holder, 10) == []
