"""Which servers the data plane lies on, and which of them were away a moment ago.

In one Postgres all shards lie on one node that has no name, and nothing here costs anything. Where the data plane is
distributed (see `distribution`) a statement that touches a node that is away fails as a whole, however many shards of
others it names. So whoever reads several shards reads them node by node, and leaves out those that are away; what lies
there waits for its node.

Where shards lie is read once, when a process starts. Shards that are moved later are still found by every statement,
only those that go together are no longer those of one node until the process is started anew.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import asyncpg

from schemas.postgres import Connection, Executor, PostgresAway, PostgresTimeout

T = TypeVar("T")

AWAY_S = 2.0
"""How long a node that was away is left alone; then one reader tries, and the others wait for what it finds."""
NODE_S = 5.0
"""How long one that does not answer is waited for, as the coordinator waits for a connection to it."""
STILL_S = 30.0
"""How long one is left alone that did not answer in a second: who tries it holds up what others have."""

_IS_DISTRIBUTED = """
    SELECT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'shards'::regclass AND partmethod = 'h')
"""
_PLACES = """
    SELECT s.n::smallint AS shard, node.nodename || ':' || node.nodeport AS node
      FROM generate_series(0, (SELECT i.shards - 1 FROM installation i)) AS s (n)
      JOIN pg_dist_placement p ON p.shardid = get_shard_id_for_distribution_column('shards', s.n::smallint)
      JOIN pg_dist_node node ON node.groupid = p.groupid AND node.noderole = 'primary'
"""


class Read(NamedTuple, Generic[T]):
    """What was read, one result a node, and of which shards."""

    results: list[T]
    shards: set[int]


class Placement:
    """The nodes of the data plane, as one process knows them."""

    def __init__(self, by_shard: Mapping[int, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._by_shard = by_shard
        self._several = len(set(by_shard.values())) > 1
        self._clock = clock
        self._away_until: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Placement {sorted(set(self._by_shard.values()))} away={sorted(self._away_until)}>"

    @property
    def distributed(self) -> bool:
        """Whether the data plane lies on other servers than the control tables."""
        return bool(self._by_shard)

    def of(self, shard: int) -> str:
        """The name of a shard's node; empty in one Postgres."""
        return self._by_shard.get(shard, "")

    def names(self) -> list[str]:
        """Of all nodes."""
        return sorted(set(self._by_shard.values())) or [""]

    def apart(self, shards: Iterable[int]) -> list[list[int]]:
        """These shards, those of a node together."""
        found: dict[str, list[int]] = {}
        for shard in shards:
            found.setdefault(self.of(shard), []).append(shard)
        return list(found.values())

    def every(self) -> list[list[int] | None]:
        """The shards of each node; None in one Postgres, where all shards are."""
        return list(self.apart(self._by_shard)) or [None]

    def away(self) -> list[int]:
        """The shards whose nodes were away a moment ago."""
        if not self._away_until:
            return []
        now = self._clock()
        return [shard for shard, node in self._by_shard.items() if self._away_until.get(node, now) > now]

    async def read(
        self,
        shards: Collection[int],
        read: Callable[[list[int]], Awaitable[T]],
        *,
        alone: bool = False,
        pooled: bool = False,
    ) -> Read[T]:
        """Call `read` once for each node's share of these shards; nodes that are away are left out.

        With `alone` it is called once for each shard where the data plane is distributed: a LIMIT inside of LATERAL is
        for one shard, or for one Postgres.

        Raises PostgresAway when it was tried in vain and nothing else was read: the coordinator may be away; and
        PostgresTimeout when a node did not answer, since the connection that waits for it is good for nothing else,
        unless each read is `pooled`, with a connection of its own. Who tries again finds that node left alone.
        """
        if not self._several and not (alone and self.distributed):
            return Read([await read(list(shards))], set(shards))
        found: Read[T] = Read([], set())
        away: PostgresAway | None = None
        for group in ([shard] for shard in shards) if alone else self.apart(shards):
            node = self.of(group[0])
            if self._is_left_alone(node):
                continue
            began = self._clock()
            try:
                async with asyncio.timeout(NODE_S if self._several else None):
                    found.results.append(await read(group))
            except TimeoutError as error:
                self._away_until[node] = self._clock() + STILL_S
                away = PostgresTimeout(f"the node {node} does not answer")
                if not pooled:
                    raise away from error
            except PostgresAway as error:
                now = self._clock()
                self._away_until[node] = now + (AWAY_S if now - began < 1 else STILL_S)
                away = error
            else:
                found.shards.update(group)
                self._away_until.pop(node, None)
        if away is not None and not found.results:
            raise away
        return found

    def _is_left_alone(self, node: str) -> bool:
        """Whether a node was away a moment ago; the first who asks when that is over is to try it."""
        until = self._away_until.get(node)
        if until is None:
            return False
        now = self._clock()
        if now < until:
            return True
        self._away_until[node] = now + NODE_S
        return False


ONE_POSTGRES = Placement({})
"""One Postgres."""


async def find(executor: Executor) -> Placement:
    """Where the shards of this installation lie."""
    if not await executor.fetchval("SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"):
        return Placement({})
    if not await executor.fetchval(_IS_DISTRIBUTED):
        return Placement({})
    return Placement({row["shard"]: row["node"] for row in await executor.fetch(_PLACES)})


@contextlib.asynccontextmanager
async def on_nodes(executor: Executor, setting: str) -> AsyncIterator[Connection]:
    """A connection, in a transaction with one SET LOCAL, which the coordinator hands on to the nodes that it reads."""
    async with contextlib.AsyncExitStack() as stack:
        connection: Any = executor
        if isinstance(executor, asyncpg.Pool):
            connection = await stack.enter_async_context(executor.acquire())
        await stack.enter_async_context(connection.transaction(readonly=True))
        await connection.execute(setting)
        yield connection


_with_some_away: "WeakKeyDictionary[asyncpg.Pool[asyncpg.Record], Placement]" = WeakKeyDictionary()
"""What is known of the nodes behind a pool that were away a moment ago."""


async def read_reachable(
    executor: Executor, shards: Collection[int], read: Callable[[list[int]], Awaitable[T]]
) -> Read[T]:
    """What `read` finds of these shards, but of those whose node is away.

    For those who read now and then: where the shards lie is asked only when something is away, and remembered with the
    pool as long as it is. Inside a transaction that raises PostgresAway, since the first error ends it.
    """
    pool = executor if isinstance(executor, asyncpg.Pool) else None
    nodes = _with_some_away.get(pool) if pool is not None else None
    if nodes is None:
        try:
            return Read([await read(list(shards))], set(shards))
        except PostgresAway:
            if not isinstance(executor, asyncpg.Pool) and executor.is_in_transaction():
                raise
            nodes = await find(executor)
            if len(nodes.names()) < 2:
                raise
    found = await nodes.read(shards, read, pooled=pool is not None)
    if pool is not None and nodes.away():
        _with_some_away[pool] = nodes
    elif pool is not None:
        _with_some_away.pop(pool, None)
    return found
