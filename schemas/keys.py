"""The Redis keys. Every key carries its shard as hash tag, so the same code runs on one Redis and on a cluster.

{3}:ingest            stream  messages accepted by edges, not yet stored (see schemas.entries)
{3}:reply             hash    device id → prepared reply (see schemas.replies); field "!" marks it complete
{3}:edges             hash    edge → that it takes telemetry (see schemas.presence)
{3}:progress          hash    how far the shard was stored, for its next flusher (see workers.flusher.stream)
{3}:calls:<window>    hash    device id → calls in a 30 s window, for devices that call often
{3}:puts:<device>     string  PUT calls of a device in its hour
{3}:account:<id>      string  when a service account's next call has its turn
{3}:<what>:<who>      string  other calls that are paced or counted (see gateway.api.call_pace and fixed_window)
{3}:page:<digest>     string  where a page of a long list begins (lists by page number, keyset inside)
{0}:postgres          hash    which database this is, and its heartbeat (see workers.postgres_history)

A channel, for one Redis only: `fleetgate:stored`, that events were added to the log.
"""

from zlib import crc32

POSTGRES = "{0}:postgres"
STORED = "fleetgate:stored"


def ingest(shard: int) -> str:
    return f"{{{shard}}}:ingest"


def reply(shard: int) -> str:
    return f"{{{shard}}}:reply"


def edges(shard: int) -> str:
    return f"{{{shard}}}:edges"


def progress(shard: int) -> str:
    return f"{{{shard}}}:progress"


def calls(shard: int, window: int) -> str:
    return f"{{{shard}}}:calls:{window}"


def puts(shard: int, device_id: str) -> str:
    return f"{{{shard}}}:puts:{device_id}"


def account(shard: int, account_id: str) -> str:
    return f"{{{shard}}}:account:{account_id}"


def of_caller(shards: int, what: str, who: str) -> str:
    """The key under which something that somebody does is paced or counted."""
    return f"{{{crc32(who.encode()) % shards}}}:{what}:{who}"


def what_of_caller(key: str) -> str:
    """What is paced or counted under such a key."""
    return key.split(":", 2)[1]


def page(shard: int, digest: str) -> str:
    return f"{{{shard}}}:page:{digest}"
