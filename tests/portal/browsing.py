"""A browser that fails a test by itself for what no page may do, and people who are signed in to it."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from edges import RunningEdge
from playwright.async_api import Browser, Page, Request, async_playwright

from gateway.api import session_cookie
from gateway.stores.people import sessions

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
NARROW, WIDE = 360, 1440
HEIGHT = 900
_RULES = (
    '{runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"]}'
)
_WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


def chromium() -> str | None:
    """Where the machine has its browser."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.asynccontextmanager
async def started() -> AsyncIterator[Browser]:
    """The machine's browser."""
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        await browser.close()


@dataclass
class Tab:
    """One page in a browser, and what it did that no page may."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Parts of complaints that a test wants to see."""

    async def open(self, path: str) -> int:
        """Go to an address of the portal; answers the status."""
        answer = await self.page.goto(self.url + path)
        assert answer is not None
        return answer.status

    async def check(self, *, accessible: bool = True) -> None:
        """Look at the page as it is: fails for what is not accessible, or scrolls sideways, and for all complaints."""
        where = f"{self.page.url.removeprefix(self.url)} at {(self.page.viewport_size or {}).get('width')}"
        content, shown = await self.page.evaluate(_WIDTHS)
        if content > shown:
            self.complaints.append(f"{where} scrolls sideways: {content} in {shown}")
        if accessible:
            await self.page.evaluate(AXE.read_text())
            found: Any = await self.page.evaluate(f"axe.run({_RULES})")
            for violation in found["violations"]:
                nodes = ", ".join(node["html"][:200] for node in violation["nodes"][:3])
                self.complaints.append(f"{where}: {violation['id']}: {violation['help']}: {nodes}")
        self.judge()

    def judge(self) -> None:
        """Fail for what was complained of until now."""
        found = [one for one in self.complaints if not any(part in one for part in self.expected)]
        assert found == [], "\n".join(found)


@contextlib.asynccontextmanager
async def tab(
    browser: Browser,
    edge: RunningEdge,
    person_id: UUID | None = None,
    *,
    width: int = WIDE,
    dark: bool = False,
    expected: tuple[str, ...] = (),
    timezone: str = "UTC",
) -> AsyncIterator[Tab]:
    """A tab of this person, signed in; of nobody without one. What it did wrong fails the test when it is closed."""
    context = await browser.new_context(
        viewport={"width": width, "height": HEIGHT},
        color_scheme="dark" if dark else "light",
        locale="en-GB",
        timezone_id=timezone,
    )
    if person_id is not None:
        cookie = session_cookie.name_of(edge.url)
        await context.add_cookies([{"name": cookie, "value": await session(edge, person_id), "url": edge.url}])
    opened = Tab(await context.new_page(), edge.url, expected=expected)
    opened.page.set_default_timeout(60_000)
    _watch(opened)
    try:
        yield opened
    finally:
        await context.close()
    opened.judge()


async def session(edge: RunningEdge, person_id: UUID) -> str:
    """What the cookie of a new session of this person holds."""
    async with edge.services.postgres.acquire() as connection:
        return await sessions.begin(connection, person_id, datetime.now(UTC), "127.0.0.1", "a test")


def _watch(opened: Tab) -> None:
    ours = urlsplit(opened.url).netloc

    def requested(request: Request) -> None:
        if request.url.startswith(("http", "ws")) and urlsplit(request.url).netloc != ours:
            opened.complaints.append(f"a request to {request.url}")

    opened.page.on("request", requested)
    opened.page.on("pageerror", lambda error: opened.complaints.append(f"an error of a script: {error}"))
    opened.page.on(
        "console",
        lambda said: opened.complaints.append(f"in the console: {said.text}") if said.type == "error" else None,
    )
