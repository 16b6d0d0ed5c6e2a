"""The portal where it runs: below a path, behind a proxy that ends TLS, with a store away."""

import pytest
from edges import RunningEdge, open_shards, running_edge
from owners import Owner, owner
from visitors import person_of

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
