"""Days of the event log that are over, and what the archive holds of them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.dataset
import pyarrow.parquet
from prometheus_client import CollectorRegistry

from schemas.blobs.store import BlobStore, Incoming, Listed, Reading
from schemas.metrics import Metrics
from schemas.postgres import Pool
from schemas.settings import WorkerSettings
from tests.conftest import MASTER_KEY, SHARDS
from workers.archiver.archiver import Archiver

_EVENTS = """
    INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data, labels)
    SELECT $1, $2 + n, $3::timestamptz + n * interval '1 minute', 'telemetry', $4, $5,
           $3::timestamptz + n * interval '1 minute' - interval '1 second',
           json_build_object('telemetry', json_build_object('status', 'online', 'telemetries',
               json_build_object('n', n, 'up', n % 2 = 0, 'text', 'a "quoted" text,' || chr(10) || 'of two lines'))),
           CASE WHEN n % 2 = 0 THEN '{"name":"Hall"}'::json END
      FROM generate_series(0, $6 - 1) n
"""


def day_before(days: int) -> datetime:
    """The begin of the day so many days ago."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)


async def make_day(pool: Pool, day: datetime) -> None:
    """A partition for a day that is over. Where the schema was made on that day, before midnight, there is one."""
    name = f"events_{day:%Y%m%d}"
    if await pool.fetchval("SELECT relispartition FROM pg_class WHERE relname = $1", name):
        return
    await pool.execute(f"CREATE TABLE IF NOT EXISTS {name} (LIKE events INCLUDING ALL)")
    await pool.execute(
        f"ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    )


async def fill(
    pool: Pool, day: datetime, shard: int, device_id: UUID, project_id: UUID | None, count: int, seq: int = 1
) -> None:
    """So many messages of a device, one a minute from the begin of the day on."""
    await pool.execute(_EVENTS, shard, seq, day, device_id, project_id, count)


def archiver(
    pool: Pool, dsn: str, store: BlobStore, metrics: Metrics | None = None, share: float = 1, **options: Any
) -> Archiver:
    """One, with two hot days."""
    settings = WorkerSettings(postgres_dsn=dsn, redis_url="", master_key=MASTER_KEY, archive=True, archive_share=share)
    return Archiver(pool, store, metrics or Metrics(CollectorRegistry()), settings, SHARDS, **options)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All that whoever reads the files finds."""
    found = pyarrow.dataset.dataset(folder / "history", partitioning="hive")
    return list(found.to_table().to_pylist())


def files_of(folder: Path) -> list[str]:
    """The names of the files of history in a store's folder."""
    return sorted(str(path.relative_to(folder)) for path in (folder / "history").rglob("*.parquet"))


async def listed(pool: Pool) -> list[str]:
    """The names of the files that count."""
    return [row["name"] for row in await pool.fetch("SELECT name FROM archive_files WHERE kept ORDER BY name")]


class Disturbed:
    """A store of which a test changes what it does when something is put there."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.disturbing: Any = None
        """Is called with what is put; what it returns is put instead."""
        self.reading: Any = None
        """Is called before anything is read."""

    async def put(self, incoming: Incoming) -> None:
        await self._store.put(incoming if self.disturbing is None else self.disturbing(incoming))

    async def read(self, name: str, start: int, end: int) -> Reading:
        if self.reading is not None:
            self.reading()
        return await self._store.read(name, start, end)

    async def size(self, name: str) -> int | None:
        return await self._store.size(name)

    async def delete(self, name: str) -> None:
        await self._store.delete(name)

    def list(self) -> AsyncIterator[Listed]:
        return self._store.list()

    async def close(self) -> None:
        await self._store.close()
