"""A stack of real processes for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.stack import Stack, copy_of, prepare


@pytest.fixture(scope="session")
async def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a migrated PostgreSQL, to be copied."""
    folder = tmp_path_factory.mktemp("prepared") / "postgres"
    await prepare(folder)
    return folder


@pytest.fixture
async def stack(tmp_path: Path, prepared: Path) -> AsyncIterator[Stack]:
    """Servers and devices; the test starts edges and workers."""
    made = Stack(tmp_path, copy_of(prepared, tmp_path))
    try:
        await made.open()
        yield made
    finally:
        await made.close()
