"""Which Redis node serves which shard, and the hot path's pipes to those nodes.

With one Redis that never changes. In a cluster a slot can move: the node that no longer serves it says so (MOVED), or
its connection is lost, and then the map of slots is read anew.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from msgspec import structs
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import parse_url

from gateway.ingest.pipe import Address, Pipe
from schemas import keys, logs
from schemas.redis import Redis, RedisAway, nodes_of, plain_url

log = logging.getLogger(__name__)

REMAP_S = 0.5


class Nodes:
    """`pipes[shard]` is the pipe to the node of that shard, None while nobody knows the node."""

    def __init__(self, url: str, redis: Redis, shards: int, ca: str = "") -> None:
        self.pipes: list[Pipe | None] = [None] * shards
        self.moved = asyncio.Event()
        self._redis = redis
        self._by_address: dict[Address, tuple[Pipe, asyncio.Task[None]]] = {}
        plain, self._cluster = plain_url(url)
        options: dict[str, Any] = {**parse_url(plain)}
        self._address = Address(
            host=options.get("host", "127.0.0.1"),
            port=options.get("port", 6379),
            path=options.get("path", "") if plain.startswith("unix:") else "",
            username=options.get("username"),
            password=options.get("password"),
            database=int(options.get("db", 0)),
            tls=plain.startswith("rediss:"),
            ca=ca,
        )

    def __repr__(self) -> str:
        return f"<Nodes {list(self._by_address)}>"

    async def run(self, on_change: Callable[[], None]) -> None:
        """Keep one pipe to each node that serves a shard, until cancelled; tells `on_change` of every change.

        A pipe that dies ends this too.
        """
        async with asyncio.TaskGroup() as group:
            while True:
                self.moved.clear()
                try:
                    self._follow(await self._addresses(), on_change, group)
                except RedisAway as error:
                    logs.event(log, logging.WARNING, "redis_slots_unknown", cause=str(error))
                    self.moved.set()
                await self.moved.wait()
                await asyncio.sleep(REMAP_S)

    async def _addresses(self) -> list[Address]:
        """The node of each shard."""
        if not isinstance(self._redis, RedisCluster):
            return [self._address] * len(self.pipes)
        nodes = await nodes_of(self._redis, map(keys.ingest, range(len(self.pipes))))
        at = self._address
        return [
            structs.replace(at, host=node.host, port=int(node.port), path="", database=0)
            for node in nodes
            if node is not None
        ]

    def _follow(self, addresses: list[Address], on_change: Callable[[], None], group: asyncio.TaskGroup) -> None:
        if len(addresses) != len(self.pipes):
            raise RedisAway("the cluster does not cover all slots")
        for address in set(addresses) - set(self._by_address):
            pipe = Pipe(address, lambda: self._changed(on_change))
            task = group.create_task(pipe.run(), name=f"redis pipe {address!r}")
            self._by_address[address] = pipe, task
        for address in set(self._by_address) - set(addresses):
            _, task = self._by_address.pop(address)
            task.cancel()
        self.pipes[:] = [self._by_address[address][0] for address in addresses]
        on_change()

    def _changed(self, on_change: Callable[[], None]) -> None:
        if self._cluster and not all(pipe is not None and pipe.connected for pipe in self.pipes):
            self.moved.set()
        on_change()
