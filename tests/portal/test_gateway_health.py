"""How the gateway is, is for its operators: the numbers of all tenants are behind the token of the metrics."""

from edges import METRICS_TOKEN, RunningEdge
from owners import Owner
from playwright.async_api import Browser
from visitors import person_of

from tests.portal import browsing


async def test_the_token_of_the_metrics_opens_the_page_and_no_role_does(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """A wrong one is told beside its field; what was typed stands in no page."""
    person_id = await person_of(acme, "organization.admin", "partner.admin")
    await acme.pool.execute(
        """INSERT INTO ingest_ledger (shard, outcome, count) VALUES (0, 'stored', 40), (1, 'stored', 2), (1, 'late', 7)
           ON CONFLICT (shard, outcome) DO UPDATE SET count = excluded.count"""
    )
    async with browsing.tab(browser, edge, person_id, width=browsing.NARROW, dark=True, expected=("422",)) as tab:
        assert await tab.open("/gateway") == 200
        page = tab.page
        assert await page.locator(".figure").count() == 0
        await page.fill("[name=token]", METRICS_TOKEN[:-1])
        await page.click("main button:text-is('Show')")
        await page.wait_for_selector(".wrong")
        assert await page.locator(".figure").count() == 0
        await page.fill("[name=token]", METRICS_TOKEN)
        await page.click("main button:text-is('Show')")
        await page.wait_for_selector(".figure")
        shown = await page.inner_text("main")
        assert "Redis\nanswers" in shown
        assert "PostgreSQL\nanswers" in shown
        assert [await page.locator(".bars dd").nth(place).inner_text() for place in (0, 1)] == ["42", "7"]
        assert "appendfsync" in shown
        assert METRICS_TOKEN not in await page.content() + page.url
        await tab.check()
