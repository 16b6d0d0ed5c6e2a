"""Flushes some shards together: one read, one transaction, one trim for all of them.

A transaction costs the same whether it moves one shard or ten, so shards that are quiet cost those that are busy
nothing. Where shards lie on several servers those of one flusher should lie on the same.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection
from datetime import datetime

import asyncpg

from schemas import logs, replies
from schemas.metrics import Metrics
from schemas.outcomes import Stored
from schemas.postgres import PARTITIONS_AHEAD_DAYS, Connection, Pool
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from workers.checkpoints import Checkpoint
from workers.flusher import stream
from workers.flusher.merge import Outcomes, merge
from workers.flusher.messages import Batch, Message, Quarantined, unpack
from workers.flusher.models import Models
from workers.flusher.rows import Rows
from workers.flusher.states import Limits
from workers.shares import LostPieceError

log = logging.getLogger(__name__)

ENTRIES_MAX = 500
"""Of one shard in one read."""
OUTBOX_MAX = 5_000
OUTBOX_S = 0.2
"""How soon an event of the outbox reaches the log when all is quiet."""
MISSING_S = 1.0
"""How often streams without new entries are looked for while other shards are busy."""


class LostShardsError(LostPieceError):
    """Others flushed these shards: nothing of the batch was stored."""

    def __init__(self, shards: Collection[int]) -> None:
        super().__init__(f"shards {sorted(shards)} were flushed by another worker")
        self.shards = shards


class Flusher:
    """Flushes the shards that are open. One flush at a time."""

    def __init__(
        self,
        pool: Pool,
        redis: Redis,
        metrics: Metrics,
        settings: WorkerSettings,
        checkpoint: Checkpoint = lambda _: None,
    ) -> None:
        self.offsets: dict[int, str] = {}
        """Of each open shard: the last entry that is stored."""
        self._pool = pool
        self._redis = redis
        self._metrics = metrics
        self._settings = settings
        self._checkpoint = checkpoint
        self._messages_in_entry = 100.0
        self._busy_shards = 1
        self._outbox_at = 0.0
        self._missing_at = 0.0
        self._models = Models(Limits(settings.state_keys_max, settings.state_bytes_max))

    def __repr__(self) -> str:
        return f"<Flusher {self.offsets}>"

    async def open(self, shard: int) -> None:
        """Read the shard's offset, and rebuild it in Redis where it is missing or older than the offset."""
        async with self._pool.acquire() as connection:
            offset = await connection.fetchval("SELECT stream_offset FROM shards WHERE shard = $1", shard)
            if not await stream.is_whole(self._redis, shard, offset):
                written = await replies.rebuild(connection, self._redis, shard)
                await stream.repair(self._redis, shard, offset)
                self._metrics.replies_rebuilt.inc(written)
                logs.event(log, logging.WARNING, "shard_rebuilt", shard=shard, replies=written)
        self.offsets[shard] = offset
        self._busy_shards = len(self.offsets)

    def close(self, shard: int) -> None:
        """Flush this shard no more."""
        self.offsets.pop(shard, None)

    async def flush(self, *, block_ms: int | None = None) -> int:
        """Store the next batch; returns how many messages it had. Without `block_ms` it does not wait for any.

        Raises LostShardsError, or what went wrong with Redis or Postgres.
        """
        # Entries grow with load: how many to read follows from how many messages the last ones held.
        wanted = self._settings.flush_messages_max / (self._messages_in_entry * self._busy_shards)
        read = await stream.read(
            self._redis, dict(self.offsets), entries_max=max(1, min(ENTRIES_MAX, int(wanted))), block_ms=block_ms
        )
        if await self._rebuild_missing(read.keys()) and not read:
            return 0
        batch = unpack({shard: entries for shard, entries in read.items() if shard in self.offsets})
        self._busy_shards = max(1, len(read))
        if read:
            self._messages_in_entry = max(1.0, len(batch.messages) / sum(map(len, read.values())))
        shards = batch.offsets.keys() | await self._outbox_shards(asked=not block_ms)
        if not shards:
            return 0
        await self._flush(batch, shards)
        return len(batch.messages)

    async def _rebuild_missing(self, read: Collection[int]) -> bool:
        """Rebuild the shards whose streams are gone; returns whether there were any.

        A stream that was just read is there. The others are looked at every time when nothing was read, and now and
        then when something was: traffic on one shard must not hide that another's stream is gone.
        """
        quiet = self.offsets.keys() - read
        if not quiet or (read and time.monotonic() - self._missing_at < MISSING_S):
            return False
        self._missing_at = time.monotonic()
        missing = await stream.missing(self._redis, quiet)
        await asyncio.gather(*map(self.open, missing))
        return bool(missing)

    async def _flush(self, batch: Batch, shards: Collection[int]) -> None:
        began = time.perf_counter()
        try:
            outcomes = await self._store(batch, shards)
        except asyncpg.DataError as error:
            logs.event(log, logging.ERROR, "batch_refused", shards=sorted(shards), cause=str(error))
            outcomes = await self._store(await self._isolate(batch), shards)
        self.offsets |= batch.offsets
        self._metrics.flush_seconds.observe(time.perf_counter() - began)
        self._metrics.flush_batch_messages.observe(len(batch.messages))
        for (_, outcome), count in outcomes.items():
            self._metrics.flushed.labels(outcome).inc(count)
        if batch.offsets:
            self._checkpoint("before_trim")
            await stream.trim(self._redis, batch.offsets)

    async def _outbox_shards(self, *, asked: bool) -> set[int]:
        """The shards for which others handed events over; not looked for at every flush unless `asked`."""
        if not asked and time.monotonic() - self._outbox_at < OUTBOX_S:
            return set()
        self._outbox_at = time.monotonic()
        rows = await self._pool.fetch(
            """SELECT shard FROM unnest($1::smallint[]) AS flushed (shard)
                WHERE EXISTS (SELECT FROM event_outbox o WHERE o.shard = flushed.shard)""",
            list(self.offsets),
        )
        return {row["shard"] for row in rows}

    async def _store(self, batch: Batch, shards: Collection[int]) -> Outcomes:
        try:
            return await self._transact(batch, shards)
        except asyncpg.CheckViolationError:
            # A new day has begun, or the clock of Postgres was set, and nobody made the day's partition yet.
            await self._pool.execute("SELECT create_event_partitions($1)", PARTITIONS_AHEAD_DAYS)
            return await self._transact(batch, shards)

    async def _transact(self, batch: Batch, shards: Collection[int]) -> Outcomes:
        outcomes: Outcomes = Counter()
        async with self._pool.acquire() as connection, connection.transaction():
            next_seq, moment = await self._lock(connection, shards)
            rows = Rows(next_seq, moment)
            await merge(connection, batch.messages, self._models, rows, outcomes)
            await rows.take_outbox(connection, shards, OUTBOX_MAX)
            self._checkpoint("before_copy")
            await rows.write(connection)
            for quarantined in batch.quarantined:
                outcomes[quarantined.shard, Stored.QUARANTINED] += 1
            if batch.quarantined:
                await connection.executemany(
                    """INSERT INTO ingest_quarantine (shard, entry_id, position, reason, message)
                       VALUES ($1, $2, $3, $4, $5)""",
                    batch.quarantined,
                )
            await _count(connection, outcomes)
            await connection.execute(
                """UPDATE shards SET stream_offset = moved.stream_offset, next_seq = moved.next_seq
                     FROM unnest($1::smallint[], $2::text[], $3::bigint[]) AS moved (shard, stream_offset, next_seq)
                    WHERE shards.shard = moved.shard AND shards.shard = ANY($1)""",
                list(next_seq),
                [batch.offsets.get(shard, self.offsets[shard]) for shard in next_seq],
                list(next_seq.values()),
            )
            self._checkpoint("before_commit")
        self._metrics.mapped_values_unfit.inc(rows.unfit)
        self._metrics.state_values_left_out.inc(rows.left_out)
        return outcomes

    async def _lock(self, connection: Connection, shards: Collection[int]) -> tuple[dict[int, int], datetime]:
        """Hold these shards until the transaction ends: the number of each one's next event, and the time.

        It is that of Postgres, by which partitions are made, so that no worker's clock leads out of them.
        """
        rows = await connection.fetch(
            """SELECT shard, stream_offset, next_seq, clock_timestamp() AS moment FROM shards
                WHERE shard = ANY($1::smallint[]) ORDER BY shard FOR NO KEY UPDATE""",
            list(shards),
        )
        held = {row["shard"]: row["next_seq"] for row in rows if row["stream_offset"] == self.offsets[row["shard"]]}
        if len(held) < len(shards):
            raise LostShardsError(set(shards) - set(held))
        return held, rows[0]["moment"]

    async def _isolate(self, batch: Batch) -> Batch:
        """Find the messages that Postgres refuses, by trying each alone and rolling back."""
        good: list[Message] = []
        bad = list(batch.quarantined)
        for message in batch.messages:
            try:
                async with self._pool.acquire() as connection:
                    trial = connection.transaction()
                    await trial.start()
                    try:
                        rows = Rows({message.shard: 0}, message.received_at)
                        await merge(connection, [message], self._models, rows, Counter())
                    finally:
                        await trial.rollback()
                good.append(message)
            except asyncpg.DataError as error:
                bad.append(Quarantined(message.shard, message.entry_id, message.position, str(error), message.body))
        return Batch(good, bad, batch.offsets)


async def _count(connection: Connection, outcomes: Outcomes) -> None:
    if not outcomes:
        return
    counted = sorted(outcomes.items())
    await connection.execute(
        """INSERT INTO ingest_ledger (shard, outcome, count)
           SELECT o.shard, o.outcome, o.count
             FROM unnest($1::smallint[], $2::text[], $3::bigint[]) AS o (shard, outcome, count)
           ON CONFLICT (shard, outcome) DO UPDATE SET count = ingest_ledger.count + excluded.count""",
        [shard for (shard, _), _ in counted],
        [outcome for (_, outcome), _ in counted],
        [count for _, count in counted],
    )
