"""`fleetgate doctor`: looks at Redis and Postgres as they are set up, and says in words what a 2xx means under that.

Without settings of its own it looks at the servers that `fleetgate up` runs. Exit code 0 when all is as it should be, 1
when something makes the gateway's promises weaker, or does not work at all.
"""

import argparse
from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct

from gateway.cli.servers import Servers, find
from schemas import postgres, redis
from schemas.postgres import AWAY
from schemas.redis import RedisError
from schemas.settings import SettingsError

MEANINGS = {
    "always": "A 2xx means: on disk. The message was fsynced before the answer left.",
    "everysec": "A 2xx means: in Redis, on disk within about a second. A power cut can lose the last second.",
    "no": "A 2xx means: in Redis. The operating system decides when it reaches the disk.",
}


class Finding(Struct):
    """One thing that was looked at."""

    good: bool
    text: str


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="check Redis and Postgres, and say what a 2xx means",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Look at everything and print it."""
    found = find()
    good = True
    for look in (_redis, _postgres):
        async for finding in look(found):
            print(f"{'ok  ' if finding.good else 'FIX '} {finding.text}")
            good = good and finding.good
    return 0 if good else 1


async def _redis(servers: Servers) -> AsyncIterator[Finding]:
    client = redis.connect(servers.redis_url)
    try:
        info: dict[str, Any] = await client.info()
        settings: dict[Any, Any] = await client.config_get("*")
    except (RedisError, OSError) as error:
        yield Finding(False, f"Redis does not answer: {error}")
        return
    finally:
        await client.aclose()
    nodes = [info] if "redis_version" in info else list(info.values())
    yield Finding(True, f"Redis {nodes[0].get('valkey_version', nodes[0]['redis_version'])}, {len(nodes)} node(s)")
    policy = settings.get("maxmemory-policy")
    yield Finding(
        policy == "noeviction",
        f"maxmemory-policy {policy}"
        + ("" if policy == "noeviction" else ": under pressure messages would be thrown away; set noeviction"),
    )
    limit = int(settings.get("maxmemory", "0"))
    yield Finding(
        limit > 0,
        f"maxmemory {limit // 2**20} MiB"
        if limit
        else "maxmemory is not set: telemetry is never shed, a long outage of Postgres ends in the OOM killer; set it",
    )
    if settings.get("appendonly") != "yes":
        yield Finding(False, "appendonly is off: a 2xx means nothing after a restart of Redis; set appendonly yes")
        return
    fsync = settings.get("appendfsync", "")
    yield Finding(fsync == "always", f"appendfsync {fsync}. {MEANINGS.get(fsync, '')}")
    yield Finding(
        all(node.get("aof_last_write_status") == "ok" for node in nodes), "the append-only file is being written"
    )


async def _postgres(servers: Servers) -> AsyncIterator[Finding]:
    try:
        connection = await postgres.connect(servers.postgres_dsn, "doctor")
    except AWAY as error:
        yield Finding(False, f"Postgres does not answer: {error}")
        return
    try:
        version = await connection.fetchval("SHOW server_version")
        yield Finding(True, f"Postgres {version}")
        for name, why in (
            ("fsync", "a crash of the machine can corrupt the database"),
            ("synchronous_commit", "a crash can lose rows whose messages are trimmed from Redis already"),
            ("full_page_writes", "a crash of the machine can corrupt the database"),
        ):
            value = await connection.fetchval(f"SHOW {name}")
            yield Finding(value != "off", f"{name} {value}" + (f": {why}; set it on" if value == "off" else ""))
        try:
            installation = await postgres.installation(connection)
            postgres.check_master_key(installation, servers.master_key)
        except SettingsError as error:
            yield Finding(False, str(error))
            return
        yield Finding(True, f"schema up to date, {installation.shards} shards, master key fits")
        tomorrow = await connection.fetchval(
            "SELECT to_regclass('events_' || to_char((now() AT TIME ZONE 'UTC') + interval '1 day', 'YYYYMMDD'))"
        )
        yield Finding(
            tomorrow is not None,
            "the event log has tomorrow's partition"
            if tomorrow
            else "the event log lacks tomorrow's partition: is a worker running?",
        )
        lost = await connection.fetchval("SELECT count(*) FROM ingest_quarantine")
        yield Finding(lost == 0, f"{lost} messages in ingest_quarantine")
    finally:
        await connection.close()
