"""Flushes some shards together: one read, one transaction, one trim for all of them.

A transaction costs the same whether it moves one shard or ten, so shards that are quiet cost those that are busy
nothing. Where shards lie on several nodes those of one flusher lie on the same (see `lanes`).
"""

import asyncio
import logging
import time
from collections.abc import Collection

from schemas import logs, replies
from schemas.metrics import Metrics
from schemas.placement import ONE_POSTGRES, Placement
from schemas.postgres import Connection, Pool
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from workers.checkpoints import Checkpoint
from workers.flusher import outbox, stream
from workers.flusher.keeping import Keeping
from workers.flusher.messages import Batch, unpack
from workers.flusher.models import Models
from workers.flusher.states import Limits
from workers.flusher.storing import Position, Storing
from workers.postgres_history import PostgresHistory

log = logging.getLogger(__name__)

ENTRIES_MAX = 500
"""Of one shard in one read."""
GONE_S = 2.0
"""How often streams without new entries are looked for."""


class Flusher:
    """Flushes the shards that are open. One batch at a time is read, one at a time is stored."""

    def __init__(
        self,
        pool: Pool,
        redis: Redis,
        metrics: Metrics,
        settings: WorkerSettings,
        history: PostgresHistory,
        checkpoint: Checkpoint = lambda _: None,
        placement: Placement = ONE_POSTGRES,
    ) -> None:
        self.positions: dict[int, Position] = {}
        """Of each open shard."""
        self.stored_s = 0.0
        """How long the last flush took to store what it had read."""
        self._pool = pool
        self._redis = redis
        self._metrics = metrics
        self._history = history
        self._generation = history.generation
        self._keeping = Keeping(settings.stream_keep_s, settings.stream_keep_bytes)
        self._settings = settings
        self._checkpoint = checkpoint
        self._messages_in_entry = 100.0
        self._busy_shards = 1
        self._one_at_a_time = asyncio.Lock()
        self._gone_at = 0.0
        models = Models(Limits(settings.state_keys_max, settings.state_bytes_max))
        self._storing = Storing(pool, models, checkpoint, distributed=placement.distributed)

    def __repr__(self) -> str:
        return f"<Flusher {self.positions}>"

    async def open(self, shard: int) -> None:
        """Read where the shard is, and rebuild it in Redis where it is missing, outdated or behind that."""
        # In this order: what another flusher notes while this reads was committed before.
        noted = await stream.progress(self._redis, shard)
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(
                "SELECT stream_offset, stream_server, next_seq FROM shards WHERE shard = $1", shard
            )
            assert row is not None
            at = Position(
                row["stream_offset"], row["stream_server"] or b"", row["next_seq"], noted.trimmed if noted else "0-0"
            )
            if noted is not None and (at.next_seq < noted.next_seq or stream.is_before(at.offset, noted.offset)):
                at = await self._follow_back(connection, shard, at, noted)
            if not await stream.is_whole(self._redis, shard, at.offset, self._history.generation):
                # Entries below the offset are moved before the replies are complete, while no edge adds any; a stream
                # that is gone is made after that, or edges would add what they then refuse.
                moved = await stream.repair(self._redis, shard, at.offset, at.server, make=False)
                written = await replies.rebuild(connection, self._redis, shard)
                moved += await stream.repair(self._redis, shard, at.offset, at.server, make=True)
                self._metrics.replies_rebuilt.inc(written)
                logs.event(log, logging.WARNING, "shard_rebuilt", shard=shard, replies=written, entries_moved=moved)
        self.positions[shard] = at
        self._busy_shards = len(self.positions)

    async def _follow_back(self, connection: Connection, shard: int, at: Position, noted: stream.Progress) -> Position:
        """Go on in a Postgres that is at an earlier point than the shard was.

        Entries that are still in the stream are stored again. Numbers of events that are gone are not given again,
        since whoever follows the log has read past them.
        """
        lost = stream.is_before(at.offset, noted.trimmed)
        self._metrics.shards_went_back.labels("lost" if lost else "repeated").inc()
        logs.event(
            log,
            logging.ERROR,
            "shard_went_back",
            shard=shard,
            stored_until=noted.offset,
            now_until=at.offset,
            lost_until=noted.trimmed if lost else None,
        )
        next_seq = await connection.fetchval(
            "UPDATE shards SET next_seq = greatest(next_seq, $2) WHERE shard = $1 RETURNING next_seq",
            shard,
            noted.next_seq,
        )
        return at._replace(next_seq=next_seq)

    def close(self, shard: int) -> None:
        """Flush this shard no more."""
        self.positions.pop(shard, None)
        self._keeping.forget(shard)

    async def flush(self, *, block_ms: int | None = None) -> int:
        """Store the next batch; returns how many messages it had.

        Without `block_ms` it does not wait for any, and stores what others handed over as well (see `take`).

        Raises LostShardsError, or what went wrong with Redis or Postgres.
        """
        if self._generation != self._history.generation:
            self._generation = self._history.generation
            await asyncio.gather(*map(self.open, list(self.positions)))
        # Entries grow with load: how many to read follows from how many messages the last ones held.
        wanted = self._settings.flush_messages_max / (self._messages_in_entry * self._busy_shards)
        read = await stream.read(
            self._redis,
            {shard: at.offset for shard, at in self.positions.items()},
            entries_max=max(1, min(ENTRIES_MAX, int(wanted))),
            block_ms=block_ms,
        )
        if await self._rebuild_gone(read.keys()) and not read:
            return 0
        async with self._one_at_a_time:
            batch = unpack({shard: entries for shard, entries in read.items() if shard in self.positions})
            await self._follow_servers(batch)
            self._busy_shards = max(1, len(read))
            if read:
                self._messages_in_entry = max(1.0, len(batch.messages) / sum(batch.entries.values()))
            handed_over = set() if block_ms else await outbox.waiting(self._pool, self.positions)
            self.stored_s = 0.0
            if batch.offsets or handed_over:
                await self._flush(batch, handed_over)
            elif expired := self._keeping.expired(time.monotonic()):
                await self._settle(expired.keys(), expired)
        return len(batch.messages)

    async def take(self, shards: Collection[int]) -> None:
        """Store what others handed over for these shards; raises as `flush` does."""
        async with self._one_at_a_time:
            if handed_over := self.positions.keys() & shards:
                await self._flush(unpack({}), handed_over)

    async def _rebuild_gone(self, read: Collection[int]) -> bool:
        """Rebuild the shards whose streams are gone or went back; returns whether there were any.

        A stream that was just read is there. The others are looked at now and then: traffic on one shard must not hide
        that another's stream is gone.
        """
        quiet = {shard: at.offset for shard, at in self.positions.items() if shard not in read}
        if not quiet or time.monotonic() - self._gone_at < GONE_S:
            return False
        self._gone_at = time.monotonic()
        gone = await stream.gone(self._redis, quiet)
        await asyncio.gather(*map(self.open, gone))
        return bool(gone)

    async def _follow_servers(self, batch: Batch) -> None:
        """Where another server took over, store what it was sent with ids that nobody reads (see `stream.repair`)."""
        for shard, server in batch.servers.items():
            at = self.positions[shard]
            if server != at.server and (
                moved := await stream.repair(self._redis, shard, at.offset, at.server, server=server, make=False)
            ):
                logs.event(log, logging.WARNING, "entries_moved", shard=shard, count=moved)

    async def _flush(self, batch: Batch, handed_over: Collection[int]) -> None:
        began = time.perf_counter()
        shards = batch.offsets.keys() | handed_over
        positions = {shard: self.positions[shard] for shard in shards}
        moved, rows, outcomes = await self._storing.store(batch, positions, handed_over)
        # Those that were closed meanwhile stay closed.
        self.positions |= {shard: at for shard, at in moved.items() if shard in self.positions}
        if rows.unknown:
            await replies.turn_unknown_away(self._redis, rows.unknown)
        self.stored_s = time.perf_counter() - began
        self._metrics.flush_seconds.observe(self.stored_s)
        self._metrics.flush_batch_messages.observe(len(batch.messages))
        self._metrics.mapped_values_unfit.inc(rows.unfit)
        self._metrics.state_values_left_out.inc(rows.left_out)
        for (_, outcome), count in outcomes.items():
            self._metrics.flushed.labels(outcome).inc(count)
        self._checkpoint("before_trim")
        now = time.monotonic()
        self._keeping.add(batch, now)
        await self._settle(shards, self._keeping.expired(now))

    async def _settle(self, shards: Collection[int], expired: dict[int, str]) -> None:
        """Note in Redis how far these shards are stored, and trim what needs not be kept any longer."""
        progress = {}
        for shard in shards:
            if at := self.positions.get(shard):
                self.positions[shard] = at = at._replace(trimmed=expired.get(shard, at.trimmed))
                kept = self._keeping.entries(shard)
                progress[shard] = stream.Progress(at.offset, at.next_seq, at.trimmed, kept)
        await stream.settle(self._redis, progress)
