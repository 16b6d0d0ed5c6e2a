"""The link, the passcode, the form, the consent: credentials come in, and never out."""

import asyncio
import base64
import hashlib
import json
import logging
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from imports import Imports

CONSENT = """
title = "Consent Cloud"
base_url = "{url}"
[settings.url]
label = "URL"
[credentials.client_id]
label = "Client <ID>"
[credentials.client_secret]
label = "Client secret"
[authentication]
kind = "authorization_code"
authorize_url = "{url}/authorize?a=b"
token_url = "{url}/token"
scope = "read offline"
[list]
path = "/devices"
items = "devices"
[device]
id = "id"
name = "name"
"""


async def _made(imports: Imports, provider: str = "acme") -> tuple[str, str, str]:
    """A connector; its id, the path of its link, and its passcode."""
    made = await imports.acme.call(
        "POST",
        "/connectors",
        {
            "provider": provider,
            "project_id": str(imports.acme.project_id),
            "space_id": str(imports.acme.space_id),
            "settings": {"url": imports.cloud.url},
        },
    )
    link = made["authentication"]
    return made["connector"]["id"], urlsplit(link["url"]).path, link["passcode"]


async def _open(imports: Imports, path: str, form: dict[str, str] | None = None) -> tuple[int, str, Any]:
    http = imports.edge.http
    call = http.get if form is None else http.post
    arguments: Any = {} if form is None else {"data": form, "headers": {"origin": imports.edge.url}}
    async with call(imports.edge.url + path, allow_redirects=False, **arguments) as answer:
        return answer.status, await answer.text(), answer.headers


async def test_whoever_knows_the_passcode_authorises_and_the_first_sync_is_due(imports: Imports) -> None:
    """Without an account. The link has then done its work."""
    imports.cloud.has("one")
    connector, path, passcode = await _made(imports)
    assert (await imports.shown(connector))["status"] == "Unauthenticated"
    status, page, headers = await _open(imports, path)
    assert (status, "Passcode" in page, "Token" in page) == (200, True, True)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "form-action 'self' https:;" in headers["content-security-policy"], "the vendor's consent may follow"
    assert headers["referrer-policy"] == "same-origin", "others are not told of the link"
    status, page, _ = await _open(imports, path, {"passcode": passcode.lower(), "token": imports.cloud.token})
    assert (status, "Connected" in page) == (200, True)
    shown = await imports.shown(connector)
    assert (shown["status"], shown["next_sync_at"] is not None) == ("Active", True)
    assert (await _open(imports, path))[0] == 410
    assert (await imports.sync(connector))["created"] == 1
    sealed = await imports.pool.fetchval("SELECT credentials FROM cloud_connectors")
    assert imports.cloud.token.encode() not in sealed
    everything = json.dumps([shown, await imports.last_run(connector)])
    assert imports.cloud.token not in everything


async def test_five_wrong_passcodes_end_a_link(imports: Imports) -> None:
    connector, path, passcode = await _made(imports)
    for count in range(1, 6):
        status, _, _ = await _open(imports, path, {"passcode": f"WRONG-{count}", "token": "x"})
        assert status == (403 if count < 5 else 410)
    assert (await _open(imports, path, {"passcode": passcode, "token": "x"}))[0] == 410
    assert (await imports.shown(connector))["status"] == "Unauthenticated"


async def test_passcodes_guessed_at_the_same_time_are_counted_one_by_one(imports: Imports) -> None:
    """Of many at once five are looked at, even if the right one is among the others."""
    connector, path, passcode = await _made(imports)
    guesses = [f"WRONG-{n}" for n in range(20)]
    answers = await asyncio.gather(*(_open(imports, path, {"passcode": guess, "token": "x"}) for guess in guesses))
    assert sorted(status for status, _, _ in answers) == [403] * 4 + [410] * 16
    assert (await _open(imports, path, {"passcode": passcode, "token": "x"}))[0] == 410
    assert await imports.pool.fetchval("SELECT passcode_failures FROM cloud_connectors WHERE id = $1", connector) == 5


async def test_seven_days_end_a_link(imports: Imports) -> None:
    _, path, _ = await _made(imports)
    await imports.pool.execute("UPDATE cloud_connectors SET link_until = link_until - $1::interval", timedelta(days=7))
    assert (await _open(imports, path))[0] == 410


async def test_a_new_link_ends_the_one_before(imports: Imports) -> None:
    connector, path, passcode = await _made(imports)
    link = await imports.acme.call("POST", f"/connectors/{connector}/regenerate_link")
    assert (await _open(imports, path, {"passcode": passcode, "token": "x"}))[0] == 410
    assert (await _open(imports, urlsplit(link["url"]).path, {"passcode": passcode, "token": "x"}))[0] == 403
    form = {"passcode": link["passcode"], "token": imports.cloud.token}
    assert (await _open(imports, urlsplit(link["url"]).path, form))[0] == 200


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token": "a\nb"}, {"token": "x" * 3000}])
async def test_what_does_not_fit_is_asked_for_again(imports: Imports, form: dict[str, str]) -> None:
    _, path, passcode = await _made(imports)
    status, page, _ = await _open(imports, path, form | {"passcode": passcode})
    assert (status, "Token is missing" in page) == (422, True)


@pytest.mark.parametrize(
    "path", ["/connect/x", "/connect/callback", "/connect/callback?state=x&code=y", "/connect/%00"]
)
async def test_made_up_links_lead_nowhere(imports: Imports, path: str) -> None:
    assert (await _open(imports, path))[0] in (404, 410)


async def test_too_large_a_form_is_refused(imports: Imports) -> None:
    _, path, _ = await _made(imports)
    assert (await _open(imports, path, {"token": "x" * 100_000}))[0] == 413


async def test_a_consent_is_passed_exchanged_renewed_and_passed_again(imports: Imports) -> None:
    """OAuth 2.0 with PKCE: the first run exchanges the code; tokens are kept and renewed, a dead one is told of."""
    (imports.cloud.folder / "consent.toml").write_text(CONSENT)
    tokens = iter(["first", "second", "third", "fourth"])
    grants: list[dict[str, str]] = []
    challenge = ""
    refuse = False

    async def before(request: web.Request, _: int) -> Any:
        if request.path != "/token":
            return None
        form = {name: str(value) for name, value in (await request.post()).items()}
        grants.append(form)
        if refuse:
            return web.json_response({"error": "invalid_grant"}, status=400)
        if form["grant_type"] == "authorization_code":
            made = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
            assert made.decode() == challenge
        imports.cloud.token = next(tokens)
        return web.json_response(
            {"access_token": imports.cloud.token, "refresh_token": f"r-{imports.cloud.token}", "expires_in": 3600}
        )

    imports.cloud.before = before
    imports.cloud.has("one")
    connector, path, passcode = await _made(imports, "consent")
    status, page, _ = await _open(imports, path)
    assert "Client &lt;ID&gt;" in page
    form = {"passcode": passcode, "client_id": "me", "client_secret": "mine"}
    status, _, headers = await _open(imports, path, form)
    assert status == 303
    asked = parse_qs(urlsplit(headers["location"]).query)
    challenge = asked["code_challenge"][0]
    assert (asked["client_id"], asked["scope"], asked["a"]) == (["me"], ["read offline"], ["b"])
    back = f"/connect/callback?state={asked['state'][0]}"
    assert (await _open(imports, f"{back}&error=access_denied"))[0] == 422
    assert (await _open(imports, f"{back}&code=c0de"))[0] == 200
    assert (await _open(imports, f"{back}&code=c0de"))[0] == 410
    assert (await imports.sync(connector))["created"] == 1
    assert (grants[-1]["code"], grants[-1]["client_secret"]) == ("c0de", "mine")
    assert grants[-1]["redirect_uri"] == asked["redirect_uri"][0]
    # The vendor ends the token early: one more attempt with a new one, in the same run.
    imports.cloud.token = "changed"
    assert (await imports.sync(connector))["error"] is None
    assert (grants[-1]["grant_type"], grants[-1]["refresh_token"]) == ("refresh_token", "r-first")
    assert (await imports.sync(connector))["error"] is None
    assert len(grants) == 2
    # The consent is withdrawn: an error at once; it is passed again without entering anything anew.
    imports.cloud.token, refuse = "changed", True
    assert "No token" in (await imports.sync(connector))["error"]
    assert (await imports.shown(connector))["status"] == "Error"
    link = await imports.acme.call("POST", f"/connectors/{connector}/reauthenticate")
    _, _, headers = await _open(imports, urlsplit(link["url"]).path, {"passcode": link["passcode"]})
    asked = parse_qs(urlsplit(headers["location"]).query)
    challenge, refuse = asked["code_challenge"][0], False
    assert (await _open(imports, f"/connect/callback?state={asked['state'][0]}&code=again"))[0] == 200
    assert (await imports.sync(connector))["error"] is None
    assert (await imports.shown(connector))["status"] == "Active"


async def test_no_credential_is_in_a_log_an_error_or_an_answer(
    imports: Imports, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a vendor says back: it may repeat what it was sent."""
    caplog.set_level(logging.DEBUG)
    (imports.cloud.folder / "consent.toml").write_text(CONSENT)
    said: list[Any] = []
    secrets = {"entered-s3cret", "access-s3cret", "refresh-s3cret", "c0de-s3cret", "token-s3cret"}

    async def before(request: web.Request, _: int) -> Any:
        if request.path != "/token":
            return web.Response(text=f"{dict(request.headers)}", status=400)
        form = dict(await request.post())
        said.append(form["grant_type"])
        if form["grant_type"] == "refresh_token":
            return web.Response(text=f"You sent {form}", status=500)
        return web.json_response({"access_token": "access-s3cret", "refresh_token": "refresh-s3cret", "expires_in": 61})

    imports.cloud.before = before
    answers: list[Any] = []
    connector, path, passcode = await _made(imports, "consent")
    form = {"passcode": passcode, "client_id": "me", "client_secret": "entered-s3cret"}
    answers.append(await _open(imports, path, form | {"passcode": "WRONG"}))
    status, page, headers = await _open(imports, path, form)
    assert (status, page) == (303, "")
    state = parse_qs(urlsplit(headers["location"]).query)["state"][0]
    answers.append(await _open(imports, f"/connect/callback?state={state}&code=c0de-s3cret"))
    answers += [await imports.sync(connector) for _ in range(3)]
    simple, path, passcode = await _made(imports)
    answers.append(await _open(imports, path, {"passcode": passcode, "token": "token-s3cret"}))
    answers.append(await imports.sync(simple))
    for each in (connector, simple):
        answers += [await imports.shown(each), await imports.acme.call("GET", f"/connectors/{each}/runs")]
    assert "answered 400" in answers[-1]["items"][0]["error"]
    assert said[0] == "authorization_code"
    everything = caplog.text + repr(answers) + repr([record.__dict__ for record in caplog.records])
    assert "connector_run_failed" in everything
    assert not [secret for secret in (*secrets, passcode) if secret in everything]
    rows = await imports.pool.fetch("SELECT row_to_json(c)::text FROM cloud_connectors c")
    assert not [secret for secret in (*secrets, passcode) if secret in repr(rows)]


async def test_only_providers_with_a_consent_can_renew_it(imports: Imports) -> None:
    connector = await imports.connector()
    assert (await imports.acme.call("POST", f"/connectors/{connector}/reauthenticate"))[0] == 422


async def test_credentials_that_were_sealed_with_another_key_are_an_error_in_words(imports: Imports) -> None:
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.pool.execute("UPDATE cloud_connectors SET credentials = credentials || '\\x00'::bytea")
    assert "cannot be read" in (await imports.sync(connector))["error"]
    assert (await imports.shown(connector))["status"] == "Error"
    link = await imports.acme.call("POST", f"/connectors/{connector}/regenerate_link")
    form = {"passcode": link["passcode"], "token": imports.cloud.token}
    assert (await _open(imports, urlsplit(link["url"]).path, form))[0] == 200
    assert (await imports.sync(connector))["error"] is None


async def test_credentials_never_go_to_a_place_that_they_were_not_entered_for(imports: Imports) -> None:
    """A setting of the address is changed: credentials and link end, and the other host hears nothing."""
    connector = await imports.connector()
    imports.cloud.has("one")
    assert (await imports.sync(connector))["error"] is None
    link = await imports.acme.call("POST", f"/connectors/{connector}/regenerate_link")
    changed = await imports.acme.call(
        "PATCH", f"/connectors/{connector}", {"settings": {"url": "https://evil.example"}}
    )
    assert changed["status"] == "Unauthenticated"
    kept = await imports.pool.fetchrow("SELECT credentials, consent, inventory_at, telemetry_at FROM cloud_connectors")
    assert tuple(kept) == (b"", b"", None, None)
    assert (await _open(imports, urlsplit(link["url"]).path))[0] == 410


async def test_credentials_stay_when_what_is_changed_leads_nowhere_else(imports: Imports) -> None:
    """The name, settings that are as they were, and one that is in a body alone."""
    text = (imports.cloud.folder / "acme.toml").read_text()
    body = 'method = "POST"\n[list.body]\nsite = "{site}"\n[list.paging]'
    text = text.replace("[list.paging]", body).replace(
        "[settings.url]", '[settings.site]\nlabel = "Site"\n[settings.url]'
    )
    (imports.cloud.folder / "acme.toml").write_text(text)
    connector = await imports.connector(settings={"url": imports.cloud.url, "site": "a"})
    same = {"url": imports.cloud.url, "site": "b"}
    for change in ({"name": "Another"}, {"settings": same}):
        assert (await imports.acme.call("PATCH", f"/connectors/{connector}", change))["status"] == "Active"
    assert await imports.pool.fetchval("SELECT credentials <> '' FROM cloud_connectors")
