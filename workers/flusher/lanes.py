"""Which of a worker's shards are flushed together.

A few lanes flush side by side: while one waits for Postgres another decodes and merges. The shards of a worker are
spread over them evenly, so however many there are, a worker has this many reads and transactions under way and no more.
On a Redis Cluster, where one call cannot read several shards, each shard has a lane of its own. Where the data plane
is distributed, the shards of a lane lie on one node, so that a node that is away stops no others, and a transaction
has one to commit on.
"""

import asyncio
import time
from collections.abc import Collection

from redis.asyncio.cluster import RedisCluster

from schemas.metrics import Metrics
from schemas.placement import ONE_POSTGRES, Placement
from schemas.postgres import Pool
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from workers.checkpoints import Checkpoint
from workers.flusher import outbox
from workers.flusher.flusher import Flusher
from workers.flusher.storing import LostShardsError
from workers.postgres_history import PostgresHistory

LANES = 4
APART_RATIO, APART_MAX_S = 4, 0.25
BLOCK_MS = 1_000
"""How long a read waits for entries; also how soon a shard that was given back is let go where there are none."""


def apart_s(interval_s: float, stored_s: float) -> float:
    """How much later than one batch, which took so long to be stored, the next one begins.

    The more there is to store the larger are the batches, and what each costs whatever its size is shared by more.
    """
    return max(interval_s, min(APART_RATIO * stored_s, APART_MAX_S))


class Lane:
    """Flushes its shards, in turn all of them together, for as long as it has some."""

    def __init__(self, flusher: Flusher, interval_s: float) -> None:
        self.shards: dict[int, tuple[asyncio.Event, asyncio.Future[None]]] = {}
        """For each: what is set when it is to be given back, and what its owner waits for."""
        self._flusher = flusher
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Lane {sorted(self.shards)}>"

    async def own(self, shard: int, done: asyncio.Event) -> None:
        """Flush a shard until `done` is set. Raises LostSlotError, or what went wrong with Redis or Postgres."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.shards[shard] = done, ended
        try:
            await self._flusher.open(shard)
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name=f"{self!r}")
            await ended
        finally:
            del self.shards[shard]
            self._flusher.close(shard)

    async def take(self, waiting: Collection[int]) -> None:
        """Store what others handed over for those of these shards that are flushed here."""
        if shards := self._flusher.positions.keys() & waiting:
            try:
                await self._flusher.take(shards)
            except LostShardsError as error:
                self._end(error.shards, error)

    async def _run(self) -> None:
        try:
            while self._give_back():
                began = time.monotonic()
                try:
                    await self._flusher.flush(block_ms=BLOCK_MS)
                except LostShardsError as error:
                    self._end(error.shards, error)
                pause = apart_s(self._interval_s, self._flusher.stored_s) - (time.monotonic() - began)
                if pause > 0:
                    await asyncio.sleep(pause)
        except Exception as error:
            # Each owner raises it, and takes its shard again or ends the process.
            self._end(list(self._flusher.positions), error)
        finally:
            self._task = None

    def _give_back(self) -> bool:
        """Let go of the shards that are done; returns whether any are left."""
        self._end([shard for shard in self._flusher.positions if self.shards[shard][0].is_set()], None)
        return bool(self._flusher.positions)

    def _end(self, shards: Collection[int], error: Exception | None) -> None:
        for shard in shards:
            self._flusher.close(shard)
            _, ended = self.shards[shard]
            if ended.cancelled():
                continue
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)


class Lanes:
    """All lanes of a worker. `own` is the work on one shard (see `workers.shares`)."""

    def __init__(
        self,
        pool: Pool,
        redis: Redis,
        metrics: Metrics,
        settings: WorkerSettings,
        shards: int,
        history: PostgresHistory,
        checkpoint: Checkpoint,
        placement: Placement = ONE_POSTGRES,
    ) -> None:
        count = shards if isinstance(redis, RedisCluster) else max(1, min(shards, LANES) // len(placement.names()))
        self._pool = pool
        self._placement = placement
        self._of_node = {
            node: [
                Lane(Flusher(pool, redis, metrics, settings, history, checkpoint, placement), settings.flush_interval_s)
                for _ in range(count)
            ]
            for node in placement.names()
        }
        self._lanes = [lane for lanes in self._of_node.values() for lane in lanes]

    def __repr__(self) -> str:
        return f"<Lanes {self._lanes}>"

    async def own(self, shard: int, done: asyncio.Event) -> None:
        """Flush a shard in the lane of its node that has the fewest, until `done` is set."""
        lanes = self._of_node[self._placement.of(shard)]
        await min(lanes, key=lambda lane: len(lane.shards)).own(shard, done)

    async def take_outbox(self) -> None:
        """Store what others handed over for the shards that are flushed here."""
        shards = [shard for lane in self._lanes for shard in lane.shards]
        waiting = await outbox.waiting(self._pool, shards) if shards else ()
        if waiting:
            await asyncio.gather(*(lane.take(waiting) for lane in self._lanes))
