"""A stack of real processes for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.stack import Stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Servers and devices; the test starts edges and workers."""
    made = Stack(tmp_path)
    try:
        await made.open()
        yield made
    finally:
        await made.close()
