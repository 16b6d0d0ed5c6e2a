"""The pictures of the README, taken of the demo stack in the machine's Chromium.

make run                                  # in another terminal, for some minutes: charts want a past
PYTHONPATH=tests/integration .venv/bin/python -m tests.portal.screenshots LINK   # the link that it printed first
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from tests.portal import browsing

FOLDER = Path(__file__).parent.parent.parent / "docs" / "images"
SIZE = {"width": 1280, "height": 800}


async def take(link: str) -> None:
    """Sign in by the link, which works once, and take the overview and a device with its values drawn."""
    parts = urlsplit(link)
    url = f"{parts.scheme}://{parts.netloc}"
    FOLDER.mkdir(exist_ok=True)
    async with browsing.started() as browser:
        page = await browser.new_page(viewport=SIZE, color_scheme="light", locale="en-GB")
        await page.goto(link)
        if await page.locator("main form button").count():  # any link but the demo's asks first
            await page.locator("main form button").first.click()
        await page.goto(f"{url}/overview")
        await page.wait_for_timeout(2000)
        await page.screenshot(path=FOLDER / "overview.png")
        await page.goto(f"{url}/devices?search=Demo+3")
        await page.locator("#results tbody a").first.click()
        await page.wait_for_url("**/devices/*-*")
        history = f"{page.url}/history"
        await page.goto(history)
        keys = [await box.get_attribute("value") for box in await page.locator("input[name=keys]").all()]
        since = datetime.now(UTC) - timedelta(minutes=10)
        drawn = urlencode([("from", f"{since:%Y-%m-%dT%H:%M}")] + [("keys", key) for key in keys[:2]])
        await page.goto(f"{history}?{drawn}")
        await page.wait_for_timeout(2000)
        await page.screenshot(path=FOLDER / "device.png")


if __name__ == "__main__":
    asyncio.run(take(sys.argv[1]))
