"""What nobody refers to leaves the file store, and nothing else does."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from owners import Owner
from prometheus_client import CollectorRegistry

from schemas import blob_references
from schemas.blobs.folder import FolderStore
from schemas.metrics import Metrics
from workers.file_janitor import YOUNG, FileJanitor


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    (tmp_path / "files" / "incoming").mkdir(parents=True)
    made = FolderStore(tmp_path / "files")
    yield made
    await made.close()


def put(folder: Path, data: bytes, name: str | None = None) -> str:
    name = name or hashlib.sha256(data).hexdigest()
    (folder / name).write_bytes(data)
    return name


async def draft(acme: Owner, checksum: str) -> None:
    made = await acme.call("POST", "/files", {"name": "F", "file_type": "manual"})
    await acme.pool.execute("UPDATE files SET checksum = $2, size = 1 WHERE id = $1", made["id"], checksum)


async def test_what_no_row_names_goes_when_it_is_not_young_any_more(
    acme: Owner, store: FolderStore, tmp_path: Path
) -> None:
    """Bytes of deleted files, and what a crash left in the middle; not what a row names, nor what is not ours."""
    folder = tmp_path / "files"
    named, unnamed = put(folder, b"named"), put(folder, b"unnamed")
    put(folder, b"half", "incoming/half")
    put(folder, b"somebody's", "notes.txt")
    await draft(acme, named)
    janitor = FileJanitor(acme.pool, store, Metrics(CollectorRegistry()))
    now = datetime.now(UTC)
    assert await janitor.tidy(now) == 0
    assert await janitor.tidy(now + YOUNG + timedelta(minutes=1)) == 2
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [named, "notes.txt"]
    assert not (folder / unnamed).exists()


async def test_what_is_named_again_meanwhile_stays(acme: Owner, store: FolderStore, tmp_path: Path) -> None:
    """An upload of the same bytes holds their name until its row is there; the janitor waits, and looks again."""
    name = put(tmp_path / "files", b"again")
    janitor = FileJanitor(acme.pool, store, Metrics(CollectorRegistry()))
    async with acme.pool.acquire() as connection:
        async with connection.transaction():
            await blob_references.lock(connection, name)
            tidying = asyncio.create_task(janitor.tidy(datetime.now(UTC) + 2 * YOUNG))
            async with asyncio.timeout(5):
                while not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                    await asyncio.sleep(0.002)
            await draft(acme, name)
        assert await tidying == 0
    assert await store.size(name) == 5


async def test_a_store_that_is_away_is_looked_at_again_later(acme: Owner, tmp_path: Path) -> None:
    """The worker goes on."""
    (tmp_path / "files").write_text("no folder")
    store = FolderStore(tmp_path / "files")
    assert await FileJanitor(acme.pool, store, Metrics(CollectorRegistry())).tidy() == 0
    await store.close()
