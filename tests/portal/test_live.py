"""A page that is live: it follows what happens, says when it does not, and comes back by itself."""

import asyncio

import pytest
from edges import RunningEdge
from owners import Owner
from playwright.async_api import Browser
from visitors import person_of

from gateway import live_states
from gateway.api import session_cookie
from gateway.portal import live
from tests.portal import browsing


async def test_a_stream_tells_the_newest_values(edge: RunningEdge, acme: Owner) -> None:
    """At most once a second, all pages of an edge by one look; beats between say that it is there."""
    device_id = await acme.device()
    await acme.seen(device_id, temperature=21.5)
    person_id = await person_of(acme, "project.user")
    cookies = {session_cookie.name_of(edge.url): await browsing.session(edge, person_id)}
    url = f"{edge.url}/devices/{device_id}/live"
    async with asyncio.timeout(20), edge.http.get(url, cookies=cookies) as answer:
        assert answer.content_type == "text/event-stream"
        told = await answer.content.readuntil(b"event: state")
        assert b"event: beat" in told
        assert b'"temperature":21.5' in await answer.content.readline() + await answer.content.readline()


async def test_no_more_pages_are_live_than_an_edge_bears(
    edge: RunningEdge, acme: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further ones are told to come back; they are shown all the same."""
    monkeypatch.setattr(live_states, "WATCHED_OF_PERSON_MAX", 1)
    cookies = {session_cookie.name_of(edge.url): await browsing.session(edge, await person_of(acme, "project.user"))}
    async with edge.http.get(f"{edge.url}/live", cookies=cookies) as first:
        await first.content.readuntil(b"event: beat")
        async with edge.http.get(f"{edge.url}/live", cookies=cookies) as second:
            assert (second.status, "retry-after" in second.headers) == (429, True)


async def test_a_role_that_is_taken_away_ends_the_streams_of_its_pages(
    edge: RunningEdge, acme: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may not see a device any more is told nothing more of it, though the page stays open."""
    monkeypatch.setattr(live, "BEAT_S", 0.05)
    monkeypatch.setattr(live, "RECHECK_BEATS", 1)
    device_id = await acme.device()
    person_id = await person_of(acme, "project.user")
    cookies = {session_cookie.name_of(edge.url): await browsing.session(edge, person_id)}
    async with asyncio.timeout(20), edge.http.get(f"{edge.url}/devices/{device_id}/live", cookies=cookies) as answer:
        await answer.content.readuntil(b"event: beat")
        await acme.pool.execute("DELETE FROM memberships WHERE person_id = $1", person_id)
        await answer.content.read()
        assert answer.content.at_eof()


async def test_an_open_page_says_when_it_is_stale_and_recovers(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """As where an edge is renewed under it."""
    person_id = await person_of(acme, "organization.admin")
    refused = ("Failed to load resource", "status of 503")
    async with browsing.tab(browser, edge, person_id, expected=refused) as tab:
        await tab.open("/overview")
        sign = tab.page.locator("[data-live]")
        await sign.filter(has_text="live").wait_for()
        edge.services.closing.set()
        await sign.filter(has_text="stale since").wait_for(timeout=30_000)
        edge.services.closing.clear()
        await sign.filter(has_text="live").wait_for(timeout=30_000)
