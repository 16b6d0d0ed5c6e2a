"""One running stack for the tests that only look, and call like clients do; those that break one start their own."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.stack import Up


@pytest.fixture(scope="package")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """`fleetgate up --demo`, running."""
    running = Up(tmp_path_factory.mktemp("demo") / "home")
    await running.start()
    yield running
    await running.end(signal.SIGKILL)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Up]:
    """One to start, and to end, by the test."""
    running = Up(tmp_path / "home")
    yield running
    await running.end(signal.SIGKILL)
