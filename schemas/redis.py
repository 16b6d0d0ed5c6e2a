"""Connecting to Redis or Valkey, alone or as a cluster, for everything but the hot path (which has its own pipe)."""

from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as SingleRedis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError, RedisError  # noqa: A004

Redis = SingleRedis | RedisCluster
"""Either client: both take the same commands as long as every key of a command has the same shard."""

__all__ = ["Redis", "RedisError", "connect", "plain_url"]

CLUSTER = "+cluster"
CONNECTIONS_MAX = 50
"""Of one process; who finds them all busy waits. Without a bound a burst of calls would open thousands."""
WAIT_S = 5
TIMEOUT_S = 5.0


def plain_url(url: str) -> tuple[str, bool]:
    """The URL without its cluster mark, and whether it had one."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.removesuffix(CLUSTER)}://{rest}", scheme.endswith(CLUSTER)


def connect(url: str) -> Redis:
    """A client for `url`. Nothing is sent before its first command.

    A command that is not answered within `TIMEOUT_S` fails, since a host that vanishes says nothing: one that blocks on
    purpose must block for less.
    """
    plain, cluster = plain_url(url)
    options: dict[str, Any] = {"socket_connect_timeout": 2, "socket_timeout": TIMEOUT_S}
    if cluster:
        client = RedisCluster.from_url(plain, **options)
        made = _losable(client.connection_kwargs["connection_class"])
        client.connection_kwargs["connection_class"] = made
        for node in client.nodes_manager.startup_nodes.values():
            node.connection_class = made
        return client
    pool = BlockingConnectionPool.from_url(plain, max_connections=CONNECTIONS_MAX, timeout=WAIT_S, **options)
    pool.connection_class = _losable(pool.connection_class)
    return SingleRedis.from_pool(pool)


class _Connection:
    """A connection that is lost or closed while it is used raises ConnectionError, whatever else the client would.

    The client looks at its streams only before it waits, and uvloop raises RuntimeError for a write to a closed
    transport, which asyncio drops: unforeseen by callers, either would end a worker.
    """

    async def send_packed_command(self, *words: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*words, **options)  # type: ignore[misc]
        except (AttributeError, RuntimeError) as error:
            raise ConnectionError(f"closed while sending: {error}") from error

    async def read_response(self, *words: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*words, **options)  # type: ignore[misc]
        except (AttributeError, RuntimeError) as error:
            raise ConnectionError(f"closed while reading: {error}") from error


def _losable(connection_class: type) -> Any:
    return type(connection_class.__name__, (_Connection, connection_class), {})
