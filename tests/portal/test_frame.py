"""The frame around every page: who may see it, how it looks, what it says when something is wrong."""

import re

from edges import RunningEdge
from owners import Owner
from playwright.async_api import Browser
from starlette.responses import Response
from visitors import PASSWORD, person_of, with_password

from gateway.api.scopes import FleetScope
from gateway.permissions import Permission
from gateway.portal import forms, rendering, static
from gateway.portal.page import page
from gateway.services import Services
from tests.portal import browsing


async def test_whoever_is_signed_in_begins_at_the_overview(browser: Browser, edge: RunningEdge, acme: Owner) -> None:
    """With the organization and its own name above it."""
    person_id = await person_of(acme, "organization.admin")
    async with browsing.tab(browser, edge, person_id) as tab:
        assert await tab.open("/") == 200
        assert tab.page.url == f"{edge.url}/overview"
        assert await tab.page.inner_text("h1") == "Overview"
        assert "Acme" in await tab.page.inner_text("header")
        assert await tab.page.get_attribute("nav a[aria-current]", "href") == "/overview"
        await tab.check()


async def test_whoever_is_not_signed_in_is_led_to_sign_in_and_back(edge: RunningEdge) -> None:
    """As a whole page, where a part was asked for."""
    async with edge.http.get(f"{edge.url}/overview?a=b", allow_redirects=False) as answer:
        assert answer.status == 303
        assert answer.headers["location"] == "/sign-in?next=%2Foverview%3Fa%3Db"
    part = {"hx-request": "true", "hx-current-url": f"{edge.url}/overview"}
    async with edge.http.get(f"{edge.url}/overview", headers=part) as answer:
        assert answer.headers["hx-redirect"] == "/sign-in?next=%2Foverview"
        assert await answer.read() == b""


async def test_files_are_kept_for_good_under_an_address_that_changes_with_them(edge: RunningEdge) -> None:
    """And under the address of another version not at all."""
    async with edge.http.get(edge.url + static.address("portal.css")) as answer:
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.content_type == "text/css"
    async with edge.http.get(f"{edge.url}/assets/0123456789abcdef/portal.css") as answer:
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    async with edge.http.get(f"{edge.url}/assets/0123456789abcdef/../page.py") as answer:
        assert answer.status == 404


def test_scripts_and_styles_are_small() -> None:
    """All of them together, compressed."""
    assert sum(len(asset.packed) for asset in static.assets().files.values()) <= 150 * 1024


async def test_people_and_programs_are_told_what_is_missing_each_in_their_way(edge: RunningEdge) -> None:
    """A page, or what the API's clients expect."""
    async with edge.http.get(f"{edge.url}/nowhere", headers={"accept": "text/html"}) as answer:
        assert (answer.status, answer.content_type) == (404, "text/html")
        assert "There is no page at this address" in await answer.text()
    for path in ("/nowhere", "/v2/nowhere"):
        async with edge.http.get(edge.url + path, headers={"accept": "application/json"}) as answer:
            assert (answer.status, answer.content_type) == (404, "application/json")


async def test_every_page_has_the_headers_that_keep_others_out(edge: RunningEdge) -> None:
    """No script or frame of anybody else."""
    async with edge.http.get(f"{edge.url}/nowhere", headers={"accept": "text/html"}) as answer:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"


async def test_a_session_that_ends_in_the_middle_of_a_form_loses_nothing(edge: RunningEdge) -> None:
    """The page that asks to sign in holds what was typed; but nothing that another site typed."""

    @page("POST", "/tried", permission=Permission.DEVELOP)
    async def tried(services: Services, fleet: FleetScope) -> Response:
        raise AssertionError

    edge.server.config.app.router.routes.insert(0, tried.route())  # type: ignore[union-attr]
    for origin, kept in ((edge.url, True), ("https://elsewhere.example", False)):
        async with edge.http.post(f"{edge.url}/tried", data={"note": "typed"}, headers={"origin": origin}) as answer:
            assert answer.status == 401
            assert ('name="note" value="typed"' in await answer.text()) == kept


def test_fields_of_passwords_are_known_by_their_names() -> None:
    """All that templates have; so none of them is kept for later."""
    names = [
        name
        for template in rendering.TEMPLATES.rglob("*.html")
        for name in re.findall(r"""ui\.field\(\w+, "([^"]+)"[^{}]*?kind="password\"""", template.read_text())
        + re.findall(r"""<input(?=[^>]*type="password")[^>]* name="([^"]+)\"""", template.read_text())
    ]
    assert {"password", "again", "current_password"} <= set(names)
    assert [name for name in names if not forms.is_secret(name)] == []
    assert not any(map(forms.is_secret, ("name", "note", "passwords_kept", "against", "labels.key", "email")))


async def test_a_password_is_not_kept_when_a_session_ends_in_the_middle_of_a_form(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """Neither in the page that answers nor in the browser; what else was typed is there after signing in."""
    person_id = await person_of(acme, "organization.admin")
    await with_password(acme, person_id)
    async with browsing.tab(browser, edge, person_id, expected=("401",)) as tab:
        page = tab.page
        await tab.open("/account")
        # As a form has it that takes more than passwords.
        await page.evaluate("document.getElementById('field-change_password-password').form.id = 'tried'")
        await page.evaluate("document.getElementById('field-rename-name').setAttribute('form', 'tried')")
        await page.fill("#field-rename-name", "Ada L.")
        for name in ("current_password", "password", "again"):
            await page.fill(f"#field-change_password-{name}", PASSWORD)
        await acme.pool.execute("DELETE FROM sessions")
        await page.click("#tried button")
        await page.wait_for_selector("text=passwords are not kept")
        assert PASSWORD not in await page.content()
        kept = await page.evaluate("JSON.parse(sessionStorage.getItem('fleetgate-kept')).typed")
        assert kept == [["name", "Ada L."]]
