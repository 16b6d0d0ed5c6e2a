"""Passkeys in a browser: added in My account, used on the sign-in page, removed."""

import msgspec
import pytest
from edges import RunningEdge
from owners import Owner
from playwright.async_api import Browser
from visitors import PASSWORD, person_of, with_password

from tests.portal import browsing

DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
}


@pytest.fixture
async def named(edge: RunningEdge) -> RunningEdge:
    """An edge that is called by a name: browsers have no passkeys for bare addresses."""
    edge.url = f"http://localhost:{edge.port}"
    msgspec.structs.force_setattr(edge.services.settings, "public_url", edge.url)
    return edge


async def test_a_passkey_is_added_and_signs_in_until_it_is_removed(
    browser: Browser, named: RunningEdge, acme: Owner
) -> None:
    """Whoever it is, its device tells; a wrong password is told beside its field."""
    person_id = await person_of(acme, "organization.admin")
    await with_password(acme, person_id)
    async with browsing.tab(browser, named, person_id, expected=("422",)) as tab:
        page = tab.page
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("WebAuthn.enable")
        await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
        await tab.open("/account")
        await page.fill("#add-passkey [name=name]", "Laptop")
        await page.fill("#add-passkey [type=password]", "not this one at all")
        await page.click("#add-passkey button")
        await page.wait_for_selector("#add-passkey >> text=Current password is not right")
        await tab.check()
        await page.fill("#add-passkey [type=password]", PASSWORD)
        await page.click("#add-passkey button")
        await page.wait_for_selector("text=The passkey is added")
        assert "Laptop" in await page.inner_text("[aria-label=Passkeys]")
        assert "never" in await page.inner_text("[aria-label=Passkeys]")
        await tab.check()
        await _sign_out_and_in(tab)
        await page.wait_for_url(f"{named.url}/account")
        assert "never" not in await page.inner_text("[aria-label=Passkeys]")
        await page.click("text=Remove >> nth=0")
        await page.wait_for_selector("text=The passkey is removed")
        await _sign_out_and_in(tab)
        await page.wait_for_selector("#by-passkey >> text=This passkey is not known here")
        await tab.check()


async def _sign_out_and_in(tab: browsing.Tab) -> None:
    await tab.page.context.clear_cookies()
    await tab.open("/account")
    await tab.page.click("#by-passkey button")


async def test_where_there_can_be_no_passkeys_none_is_offered(edge: RunningEdge, acme: Owner) -> None:
    """At a bare address; and who asks for a challenge all the same is refused."""
    async with edge.http.get(f"{edge.url}/sign-in") as answer:
        assert "by-passkey" not in await answer.text()
    async with edge.http.post(f"{edge.url}/sign-in/passkey/challenge", headers={"origin": edge.url}) as answer:
        assert answer.status == 409
