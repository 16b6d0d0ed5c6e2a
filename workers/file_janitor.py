"""Deletes from the file store what no row names: bytes of deleted files and dumps, and what crashes left.

What is young is left alone, for it may be on its way. What is named again between looking and deleting stays: both are
done under the lock of the name (see `schemas.blob_references`). Things that we would not have put there stay as well.
"""

import logging
import re
from datetime import UTC, datetime, timedelta

from schemas import blob_references, logs
from schemas.blobs.store import INCOMING, BlobsAway, BlobStore
from schemas.metrics import Metrics
from schemas.postgres import Pool

log = logging.getLogger(__name__)

INTERVAL_S = 600.0
YOUNG = timedelta(hours=1)
NAMES_MAX = 1_000
"""Looked up at once."""
_NAME = re.compile("[0-9a-f]{64}")


class FileJanitor:
    """Looks after the file store. Several may run."""

    def __init__(self, pool: Pool, blobs: BlobStore, metrics: Metrics) -> None:
        self._pool = pool
        self._blobs = blobs
        self._metrics = metrics

    async def tidy(self, now: datetime | None = None) -> int:
        """Delete what nobody needs; returns how much that was. With the store away, the next turn does it."""
        before, deleted = (now or datetime.now(UTC)) - YOUNG, 0
        names: list[str] = []
        try:
            async for one in self._blobs.list():
                if one.modified_at >= before:
                    continue
                if one.name.startswith(INCOMING):
                    await self._blobs.delete(one.name)
                    deleted += 1
                elif _NAME.fullmatch(one.name):
                    names.append(one.name)
                    if len(names) == NAMES_MAX:
                        deleted += await self._delete_unneeded(names)
                        names = []
            deleted += await self._delete_unneeded(names)
        except BlobsAway as error:
            logs.event(log, logging.WARNING, "file_store_away", cause=str(error))
        if deleted:
            self._metrics.retention_ended.labels("bytes of files").inc(deleted)
            logs.event(log, logging.INFO, "retention_ended", what="bytes of files", rows=deleted)
        return deleted

    async def _delete_unneeded(self, names: list[str]) -> int:
        deleted = 0
        async with self._pool.acquire() as connection:
            for name in await blob_references.unneeded(connection, names):
                async with connection.transaction():
                    await blob_references.lock(connection, name)
                    if await blob_references.unneeded(connection, [name]):
                        await self._blobs.delete(name)
                        deleted += 1
        return deleted
