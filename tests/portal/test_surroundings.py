"""The portal where it runs: below a path, behind a proxy that ends TLS, with a store away."""

import pytest
from edges import RunningEdge, open_shards, running_edge
from owners import Owner, owner
from playwright.async_api import Browser
from visitors import PASSWORD, person_of, with_password

from gateway.api import session_cookie
from gateway.portal import static
from gateway.portal.forms import TOKEN
from gateway.stores.people import sessions
from schemas.postgres import PostgresAway
from schemas.redis import Redis
from tests.portal import browsing

PUBLIC = "https://fleet.example/devices"


async def test_below_a_path_every_address_is_below_it(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """The proxy takes the path off; links, files, forms and where one is led have it."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, public_url=PUBLIC) as edge:
        tenant = await owner(edge, "Acme")
        secret = await browsing.session(edge, await person_of(tenant, "organization.admin"))
        cookies = {session_cookie.name_of(PUBLIC): secret}
        async with edge.http.get(f"{edge.url}/overview", allow_redirects=False) as answer:
            assert answer.headers["location"] == "/devices/sign-in?next=%2Foverview"
        async with edge.http.get(f"{edge.url}/overview", cookies=cookies) as answer:
            text = await answer.text()
        assert f'href="/devices{static.address("portal.css")}"' in text
        assert 'href="/devices/devices?status=error"' in text
        assert 'hx-get="/devices/overview?counted=true"' in text
        assert not any(f'{name}="/{start}' in text for name in ("href", "src", "action") for start in ("a", "o", "l"))


async def test_behind_a_proxy_that_ends_tls_forms_come_from_the_public_address(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """However the proxy names the host to the edge; and from nowhere else."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, public_url=PUBLIC) as edge:
        tenant = await owner(edge, "Acme")
        secret = await browsing.session(edge, await person_of(tenant, "organization.admin"))
        cookies = {session_cookie.name_of(PUBLIC): secret}
        form = {TOKEN: session_cookie.form_token(secret), "name": ""}
        for origin, status in (("https://fleet.example", 303), ("https://elsewhere.example", 403)):
            async with edge.http.post(
                f"{edge.url}/devices/views/delete",
                data=form,
                cookies=cookies,
                headers={"origin": origin},
                allow_redirects=False,
            ) as answer:
                assert answer.status == status


@pytest.fixture
async def signed_in(edge: RunningEdge, acme: Owner) -> dict[str, str]:
    """The cookies of an administrator."""
    secret = await browsing.session(edge, await person_of(acme, "organization.admin"))
    return {session_cookie.name_of(edge.url): secret}


async def test_a_store_that_is_away_is_a_page_that_says_so_and_tries_again(
    edge: RunningEdge, signed_in: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was typed into a form is kept, to be sent again."""

    async def away(*_: object) -> None:
        raise PostgresAway("gone")

    monkeypatch.setattr(sessions, "living", away)
    async with edge.http.get(f"{edge.url}/overview", cookies=signed_in) as answer:
        assert (answer.status, answer.content_type) == (503, "text/html")
        assert "data-retry=" in await answer.text()
        assert "retry-after" in answer.headers
    form = {"name": "Typed", "query": "status=ok"}
    headers = {"origin": edge.url}
    url = f"{edge.url}/devices/views"
    async with edge.http.post(url, data=form, cookies=signed_in, headers=headers) as answer:
        assert answer.status == 503
        assert 'name="name" value="Typed"' in await answer.text()


async def test_the_page_of_a_session_that_is_over_can_be_sent_again(
    edge: RunningEdge, signed_in: dict[str, str]
) -> None:
    """It holds what was typed, with the token of the session that is."""
    form = {TOKEN: "0" * 64, "name": "Typed", "query": "status=ok"}
    async with edge.http.post(
        f"{edge.url}/devices/views", data=form, cookies=signed_in, headers={"origin": edge.url}
    ) as answer:
        text = await answer.text()
    (secret,) = signed_in.values()
    assert answer.status == 403
    assert 'name="name" value="Typed"' in text
    assert f'name="{TOKEN}" value="{session_cookie.form_token(secret)}"' in text


async def test_what_was_typed_is_there_again_after_signing_in_anew(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """A session that ended while somebody filled in a form costs a sign-in, and nothing that was typed."""
    device_id = await acme.device(name="Press")
    person_id = await person_of(acme, "project.developer")
    await with_password(acme, person_id)
    async with browsing.tab(browser, edge, person_id, expected=("401",)) as tab:
        await tab.open(f"/devices/{device_id}/settings")
        await tab.page.get_by_label("Name", exact=True).fill("Press in hall 3")
        await acme.pool.execute("DELETE FROM sessions WHERE person_id = $1", person_id)
        await tab.page.get_by_role("button", name="Save").click()
        await tab.page.get_by_text("Nothing that you typed is lost").wait_for()
        await tab.page.get_by_role("link", name="Sign in").click()
        await tab.page.get_by_label("Email").fill("ada@example.com")
        await tab.page.get_by_label("Password").fill(PASSWORD)
        await tab.page.get_by_role("button", name="Sign in").click()
        name = tab.page.get_by_label("Name", exact=True)
        await name.wait_for()
        assert await name.input_value() == "Press in hall 3"
        await tab.page.get_by_role("button", name="Save").click()
        await tab.page.get_by_text("Saved; the device is told").wait_for()
    assert (await acme.row(device_id))["name"] == "Press in hall 3"
