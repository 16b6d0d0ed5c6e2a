"""The portal in a real browser: one a session, on a running edge."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser
from tenants import acme, edge, globex

from gateway.portal import static, vendor
from tests.portal import browsing

__all__ = ["acme", "edge", "globex"]


@pytest.fixture(scope="session", autouse=True)
def _assets() -> None:
    """What set-up brings; a checkout that was never set up gets it now."""
    if not (vendor.is_installed() and Path(browsing.AXE).is_file()):
        vendor.install()
        static.assets.cache_clear()


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The machine's Chromium. Without one these tests are left out, which in CI is a failure."""
    if browsing.chromium() is None:
        text = "no Chromium on this machine: what the portal does in a browser was not tried"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    async with browsing.started() as started:
        yield started
