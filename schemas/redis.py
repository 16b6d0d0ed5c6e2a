"""Connecting to Redis or Valkey, alone or as a cluster, for everything but the hot path (which has its own pipe).

Errors are translated where they enter. What a command raises depends on what happened:

    what happened                                                           exception
    the connection is refused, lost or times out, or all of ours are busy   RedisAway
    wrong password, or too many clients                                     RedisAway
    LOADING, READONLY, MASTERDOWN, NOREPLICAS, or an answer out of turn     RedisAway
    OOM (full), MISCONF (cannot write to its disk), BUSY (runs a script)    RedisAway
    a cluster that is down, moves slots or cannot be reached                RedisAway
    a key vanished or appeared between two commands                         RedisAway
    wrong type, wrong arguments, no permission, keys of two slots           the client's own: a bug of ours
"""

import re
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Never

from redis import exceptions
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as SingleRedis
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterNode, ClusterPipeline, RedisCluster
from redis.driver_info import DriverInfo

from schemas.authorities import trusting

Redis = SingleRedis | RedisCluster
"""Either client: both take the same commands as long as every key of a command has the same shard."""

CLUSTER = "+cluster"
CONNECTIONS_MAX = 50
"""Of one process; a command that finds them all busy waits. Without a bound a burst of calls would open thousands."""
WAIT_S = 5
TIMEOUT_S = 5.0
DRIVER = DriverInfo()
"""What connections say that they are. Each would read the version from the installed package's files anew."""


class RedisAway(Exception):
    """Redis is not there for the moment, or cannot do this at the moment: try again later."""


BY_CLASS = (
    OSError,
    exceptions.ConnectionError,  # refused, lost, LOADING, wrong password, all connections busy
    exceptions.TimeoutError,
    exceptions.InvalidResponse,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.ClusterError,  # CLUSTERDOWN, MASTERDOWN, or redirected too often
    exceptions.AskError,  # and MOVED: a redirection that nobody followed
    exceptions.TryAgainError,
    exceptions.SlotNotCoveredError,
)
BY_TEXT = re.compile(
    r"""(?:^|caused\ error:\ \(['"])        # alone, or as the error of a command of a pipeline
        (?:MISCONF|NOREPLICAS|BUSY\ |UNBLOCKED
           # Another worker, an edge or an emptied Redis was faster:
           |no\ such\ key|BUSYGROUP|The\ ID\ specified\ in\ XSETID\ is\ smaller)""",
    re.VERBOSE,
)
"""How the text of an error begins for which the client has no class."""
CLUSTER_AWAY = ("Redis Cluster cannot be connected", "All slots are not covered", "startup_nodes could not agree")
RAISED = (OSError, exceptions.RedisError, exceptions.RedisClusterException)


def is_away(error: BaseException) -> bool:
    """Whether an error of the client says that Redis is away; otherwise it is a bug of ours."""
    if isinstance(error, BY_CLASS):
        return True
    if isinstance(error, exceptions.RedisClusterException):
        return str(error).startswith(CLUSTER_AWAY)
    return isinstance(error, exceptions.ResponseError) and BY_TEXT.search(str(error)) is not None


def translate(error: Exception) -> Never:
    """Raise an error as what it means, or as it is."""
    if is_away(error):
        raise RedisAway(str(error) or type(error).__name__) from error
    raise error


def _translating(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def call(self: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return await method(self, *arguments, **options)
        except RAISED as error:
            if isinstance(error, exceptions.ReadOnlyError) and not isinstance(self, RedisCluster | ClusterPipeline):
                # A primary no more: the address may lead to the new one, connections that are there never will.
                await self.connection_pool.disconnect(inuse_connections=False)
            translate(error)

    return call


class _Pipeline(Pipeline):
    execute = _translating(Pipeline.execute)  # type: ignore[assignment]


class _ClusterPipeline(ClusterPipeline):
    execute = _translating(ClusterPipeline.execute)  # type: ignore[assignment]


class _Single(SingleRedis):
    execute_command = _translating(SingleRedis.execute_command)  # type: ignore[assignment]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Cluster(RedisCluster):
    execute_command = _translating(RedisCluster.execute_command)  # type: ignore[assignment]
    initialize = _translating(RedisCluster.initialize)  # type: ignore[assignment]

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        return _ClusterPipeline(self, transaction)  # type: ignore[abstract]


def plain_url(url: str) -> tuple[str, bool]:
    """The URL without its cluster mark, and whether it had one."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.removesuffix(CLUSTER)}://{rest}", scheme.endswith(CLUSTER)


def authorities(ca: str) -> ssl.SSLContext:
    """What checks a server's certificate: the authorities in this file, or the system's. Raises SettingsError."""
    return trusting(ca, "FLEETGATE_REDIS_CA")


def connect(url: str, ca: str = "") -> Redis:
    """A client for `url`, with `ca` as in `authorities`. Nothing is sent before its first command.

    A command that is not answered within `TIMEOUT_S` fails, since a host that vanishes says nothing: one that blocks on
    purpose must block for less.
    """
    plain, cluster = plain_url(url)
    options: dict[str, Any] = {"socket_connect_timeout": 2, "socket_timeout": TIMEOUT_S, "driver_info": DRIVER}
    if ca and plain.startswith("rediss:"):
        authorities(ca)
        options["ssl_ca_certs"] = ca
    if cluster:
        client = _Cluster.from_url(plain, **options)
        connection_class = _failing_as_lost(client.connection_kwargs["connection_class"])
        client.connection_kwargs["connection_class"] = connection_class
        for node in client.nodes_manager.startup_nodes.values():
            node.connection_class = connection_class
        return client
    pool = BlockingConnectionPool.from_url(plain, max_connections=CONNECTIONS_MAX, timeout=WAIT_S, **options)
    pool.connection_class = _failing_as_lost(pool.connection_class)
    return _Single.from_pool(pool)


async def nodes_of(client: RedisCluster, keys: Iterable[str]) -> list[ClusterNode | None]:
    """The node of each key, from the cluster's map of slots, which is read anew. Raises RedisAway."""
    try:
        await client.nodes_manager.initialize()
        return [client.get_node_from_key(key) for key in keys]
    except RAISED as error:
        translate(error)


class _Connection:
    """A connection that is lost or closed while it is used raises ConnectionError, whatever else the client would.

    The client looks at its streams only before it waits, and uvloop raises RuntimeError for a write to a closed
    transport, which asyncio drops. Neither is an error of the client's own, so neither would be retried or translated.
    """

    async def send_packed_command(self, *words: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*words, **options)  # type: ignore[misc]
        except (AttributeError, RuntimeError) as error:
            raise exceptions.ConnectionError(f"closed while sending: {error}") from error

    async def read_response(self, *words: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*words, **options)  # type: ignore[misc]
        except (AttributeError, RuntimeError) as error:
            raise exceptions.ConnectionError(f"closed while reading: {error}") from error


def _failing_as_lost(connection_class: type) -> Any:
    """A connection class with the above in front of it."""
    return type(connection_class.__name__, (_Connection, connection_class), {})
