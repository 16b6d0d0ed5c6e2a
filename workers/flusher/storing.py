"""The transaction that stores a batch: rows, states, outcomes, and how far each shard is now, all or nothing."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

import asyncpg

from schemas import logs
from schemas.distribution import two_phases
from schemas.outcomes import Stored
from schemas.postgres import PARTITIONS_AHEAD_DAYS, Connection, Pool
from workers.checkpoints import Checkpoint
from workers.flusher.merge import Outcomes, merge
from workers.flusher.messages import Batch, Message, Quarantined
from workers.flusher.models import Models
from workers.flusher.rows import Rows
from workers.shares import LostSlotError

log = logging.getLogger(__name__)

OUTBOX_MAX = 5_000


class LostShardsError(LostSlotError):
    """Others flushed these shards: nothing of the batch was stored."""

    def __init__(self, shards: Collection[int]) -> None:
        super().__init__(f"shards {sorted(shards)} were flushed by another worker")
        self.shards = shards


class Position(NamedTuple):
    """Where a shard is: the last entry that is stored, the server it was sent to, the number of the next event, and the
    last entry that was trimmed."""

    offset: str
    server: bytes
    next_seq: int
    trimmed: str


class Result(NamedTuple):
    """What a transaction did: where its shards are now, the rows it added, and what became of each message."""

    positions: dict[int, Position]
    rows: Rows
    outcomes: Outcomes


class Storing:
    """Stores batches, one at a time."""

    def __init__(self, pool: Pool, models: Models, checkpoint: Checkpoint, *, distributed: bool) -> None:
        self._pool = pool
        self._models = models
        self._checkpoint = checkpoint
        self._distributed = distributed

    def __repr__(self) -> str:
        return f"<Storing {self._models!r}>"

    async def store(self, batch: Batch, positions: Mapping[int, Position], handed_over: Collection[int] = ()) -> Result:
        """Store a batch of the shards that lie at these positions, and what others handed over for some of them.

        A message that Postgres refuses goes into quarantine. Raises LostShardsError, or what went wrong with Postgres.
        """
        try:
            return await self._store(batch, positions, handed_over)
        except asyncpg.DataError as error:
            logs.event(log, logging.ERROR, "batch_refused", shards=sorted(positions), cause=str(error))
            return await self._store(await self._isolate(batch), positions, handed_over)

    async def _store(self, batch: Batch, positions: Mapping[int, Position], handed_over: Collection[int]) -> Result:
        try:
            return await self._transact(batch, positions, handed_over)
        except (asyncpg.CheckViolationError, asyncpg.InternalServerError) as error:
            # A new day has begun, or the clock of Postgres was set, and nobody made the day's partition yet. What a
            # node says in a COPY comes without its code.
            if "no partition of relation" not in str(error):
                raise
            await self._pool.execute("SELECT create_event_partitions($1)", PARTITIONS_AHEAD_DAYS)
            return await self._transact(batch, positions, handed_over)

    async def _transact(self, batch: Batch, positions: Mapping[int, Position], handed_over: Collection[int]) -> Result:
        outcomes: Outcomes = Counter()
        async with self._pool.acquire() as connection, connection.transaction():
            next_seq, moment = await _lock(connection, positions, distributed=self._distributed)
            rows = Rows(next_seq, moment)
            await merge(connection, batch.messages, self._models, rows, outcomes)
            if handed_over:
                await rows.take_outbox(connection, handed_over, OUTBOX_MAX)
            self._checkpoint("before_copy")
            await rows.write(connection)
            if self._distributed and not rows.packed:
                await two_phases(connection)
            for quarantined in batch.quarantined:
                outcomes[quarantined.shard, Stored.QUARANTINED] += 1
            if batch.quarantined:
                await connection.executemany(
                    """INSERT INTO ingest_quarantine (shard, entry_id, position, reason, message)
                       VALUES ($1, $2, $3, $4, $5)""",
                    batch.quarantined,
                )
            await _count(connection, outcomes)
            moved = {
                shard: at._replace(
                    offset=batch.offsets.get(shard, at.offset),
                    server=batch.servers.get(shard, at.server),
                    next_seq=next_seq[shard],
                )
                for shard, at in positions.items()
            }
            await connection.execute(
                """UPDATE shards SET stream_offset = moved.stream_offset, stream_server = moved.stream_server,
                          next_seq = moved.next_seq
                     FROM unnest($1::smallint[], $2::text[], $3::bytea[], $4::bigint[])
                            AS moved (shard, stream_offset, stream_server, next_seq)
                    WHERE shards.shard = moved.shard AND shards.shard = ANY($1)""",
                list(moved),
                [at.offset for at in moved.values()],
                [at.server for at in moved.values()],
                [at.next_seq for at in moved.values()],
            )
            self._checkpoint("before_commit")
        return Result(moved, rows, outcomes)

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
        return batch._replace(messages=good, quarantined=bad)


_HELD = """
    SELECT shard, stream_offset, next_seq, clock_timestamp() AS moment FROM shards
     WHERE shard = ANY($1::smallint[]) ORDER BY shard FOR NO KEY UPDATE
"""
# By reading, Citus locks rows of one shard only; and what a write returns knows no time.
_HELD_BY_WRITING = """
    UPDATE shards SET next_seq = next_seq WHERE shard = ANY($1::smallint[]) RETURNING shard, stream_offset, next_seq
"""


async def _lock(
    connection: Connection, positions: Mapping[int, Position], *, distributed: bool
) -> tuple[dict[int, int], datetime]:
    """Hold these shards until the transaction ends: the number of each one's next event, and the time.

    It is that of Postgres, by which partitions are made, so that no worker's clock leads out of them. Raises
    LostShardsError for shards that another flushed, or that lie in a Postgres at an earlier point.
    """
    rows = await connection.fetch(_HELD_BY_WRITING if distributed else _HELD, list(positions))
    held = {
        row["shard"]: row["next_seq"]
        for row in rows
        if row["stream_offset"] == positions[row["shard"]].offset
        and row["next_seq"] >= positions[row["shard"]].next_seq
    }
    if len(held) < len(positions):
        raise LostShardsError(positions.keys() - held.keys())
    moment = await connection.fetchval("SELECT clock_timestamp()") if distributed else rows[0]["moment"]
    return held, moment


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
