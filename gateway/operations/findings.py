"""What `fleetgate doctor` says, and the page of the gateway's health: whether Redis and Postgres are as they should be.

Each look finds things that are well or to be fixed, in words.
"""

import asyncio
import functools
import os
from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from gateway.api.addresses import unnamed_proxy
from gateway.operations.postgres_server import ServersError, connect
from schemas import distribution, event_log, hosts, placement, postgres, redis
from schemas.manifests import catalog
from schemas.master_keys import MasterKeys
from schemas.placement import read_reachable
from schemas.redis import RedisAway
from schemas.settings import PREFIX, Keys, SettingsError

REDIS_VERSION_MIN = (6, 2)
MEMORY_RATIO_MAX = 0.75
"""From here on edges shed telemetry, unless they are set otherwise (FLEETGATE_SHED_MEMORY_RATIO)."""
MEANINGS = {
    "always": "A 2xx means: on disk. The message was fsynced before the answer left.",
    "everysec": "A 2xx means: in Redis, on disk within about a second. A power cut can lose the last second.",
    "no": "A 2xx means: in Redis. The operating system decides when it reaches the disk.",
}


class Finding(Struct):
    """One thing that was looked at."""

    good: bool
    text: str


async def addresses() -> AsyncIterator[Finding]:
    """Whether devices can be told where to call, and callers told apart."""
    bind, public_url = os.environ.get("FLEETGATE_BIND", ""), os.environ.get("FLEETGATE_PUBLIC_URL", "")
    if public_url:
        yield Finding(True, f"Devices are told to call {public_url}")
    elif hosts.is_every_address(bind.rpartition(":")[0]):
        text = f"{bind} is no address that devices can keep, they get the one they happen to call"
        yield Finding(False, f"{text}; set FLEETGATE_PUBLIC_URL")
    tls = bool(os.environ.get("FLEETGATE_TLS_CERTIFICATE"))
    if bind and (unnamed := unnamed_proxy(os.environ, bind=bind, public_url=public_url, tls=tls)):
        yield Finding(False, unnamed)


async def readable_manifests() -> AsyncIterator[Finding]:
    """Those of the folder that this environment names: edges and workers skip what they cannot use."""
    for finding in await asyncio.to_thread(_manifests, os.environ.get(f"{PREFIX}MANIFESTS", "")):
        yield finding


def _manifests(folder: str) -> list[Finding]:
    said = []
    if folder and not os.path.isdir(folder):
        said.append(Finding(False, f"{PREFIX}MANIFESTS is no folder that can be read: {folder}"))
    found = catalog.load(folder)
    for provider, error in found.broken.items():
        text = f"The manifest {provider} is skipped, and its connectors do not run: {error}"
        said.append(Finding(False, text))
    if not found.broken:
        said.append(Finding(True, f"All {len(found.manifests)} manifests of vendors' clouds can be used"))
    return said


async def of_redis(url: str, ca: str) -> AsyncIterator[Finding]:
    """Whether it keeps what it takes, and has room."""
    client = redis.connect(url, ca)
    try:
        nodes = await _by_node(client, "INFO")
        try:
            settings = await _by_node(client, "CONFIG GET", "*")
        except (RedisAway, ResponseError) as error:
            settings = {}
            yield Finding(False, f"Redis does not tell its settings ({error}): nobody can say what a 2xx means")
    except RedisAway as error:
        yield Finding(False, f"Redis does not answer: {error}")
        return
    finally:
        await client.aclose()
    for node, info in nodes.items():
        at = f" at {node}" if node else ""
        for finding in _node(info, settings.get(node)):
            yield Finding(finding.good, f"Redis{at}: {finding.text}")


async def _by_node(client: Any, command: str, *arguments: str) -> dict[str, dict[str, Any]]:
    """What each primary answers; with one Redis its name is empty."""
    if not isinstance(client, RedisCluster):
        return {"": await client.execute_command(command, *arguments)}
    await client.initialize()
    return {
        node.name: await client.execute_command(command, *arguments, target_nodes=node)
        for node in client.get_primaries()
    }


def _node(info: dict[str, Any], settings: dict[str, str] | None) -> list[Finding]:
    """What there is to say of one node."""
    version = str(info["redis_version"])
    recent = tuple(int(part) for part in version.split(".")[:2]) >= REDIS_VERSION_MIN
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"version {version}"
    found = [Finding(recent, name if recent else f"{name} is too old: 6.2 or newer is needed")]
    found.append(_memory(info))
    if info.get("connected_slaves"):
        found.append(_replicas())
    if settings is None:
        return found
    policy = settings.get("maxmemory-policy")
    kept = policy == "noeviction"
    thrown = ": under pressure messages would be thrown away; set noeviction"
    found.append(Finding(kept, f"maxmemory-policy {policy}{'' if kept else thrown}"))
    if settings.get("appendonly") != "yes":
        text = "appendonly is off. A 2xx means: in memory. A restart of Redis loses it; set appendonly yes"
        return [*found, Finding(False, text)]
    fsync = settings.get("appendfsync", "")
    found.append(
        Finding(
            fsync == "always",
            f"appendfsync {fsync}. {MEANINGS.get(fsync, '')}{'' if fsync == 'always' else ' Set always.'}",
        )
    )
    if settings.get("no-appendfsync-on-rewrite") == "yes":
        text = "no-appendfsync-on-rewrite is on: while the file is rewritten a 2xx is not on disk; set it no"
        found.append(Finding(False, text))
    written = info.get("aof_last_write_status") == "ok"
    failing = "the append-only file cannot be written (is the disk full?): messages are refused"
    found.append(Finding(written, "the append-only file is being written" if written else failing))
    return found


def _replicas() -> Finding:
    waited = int(os.environ.get(f"{PREFIX}REDIS_REPLICAS_MIN") or 0)
    if waited:
        return Finding(True, f"it has replicas. A 2xx means: {waited} of them have the message too")
    text = "it has replicas, and a fail-over loses what they did not have yet, though devices heard 2xx"
    return Finding(False, f"{text}; set FLEETGATE_REDIS_REPLICAS_MIN for edges")


def _memory(info: dict[str, Any]) -> Finding:
    used, limit, machine = info["used_memory"], info["maxmemory"], info.get("total_system_memory", 0)
    if not limit:
        text = "maxmemory is not set: telemetry is never shed, a long outage of Postgres ends in the OOM killer; set it"
        return Finding(False, text)
    text = f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB used"
    if used > limit * MEMORY_RATIO_MAX:
        return Finding(False, f"{text}: telemetry is shed; are workers running? else give it more maxmemory")
    if machine and limit > machine:
        return Finding(False, f"{text}, but the machine has {machine / 2**20:.0f} MiB: lower maxmemory")
    return Finding(True, text)


async def _standbys(connection: postgres.Connection) -> Finding | None:
    """What a fail-over to a standby can lose; None where there is none that lags."""
    lagging = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_replication WHERE coalesce(sync_state, 'async') NOT IN ('sync', 'quorum')"
    )
    if not lagging:
        return None
    kept = float(os.environ.get(f"{PREFIX}STREAM_KEEP_S") or 0)
    if kept:
        return Finding(True, f"Postgres: a standby may lag; workers store again what it lacks of the last {kept:g} s")
    text = "Postgres: a standby may lag, and what it lacks at a fail-over is lost, though devices heard 2xx"
    return Finding(False, f"{text}; set FLEETGATE_STREAM_KEEP_S for workers to more than its lag")


_QUARANTINED = "SELECT count(*) FROM ingest_quarantine WHERE shard = ANY($1::smallint[])"


async def _nodes(connection: postgres.Connection) -> AsyncIterator[Finding]:
    """Where the data plane is distributed: whether each node is there, and keeps what it takes."""
    placed = await placement.find(connection)
    if not placed.distributed:
        return
    shards = await event_log.shards(connection)
    for node in placed.names():
        count = sum(placed.of(shard) == node for shard in shards)
        found = await distribution.settings_of(connection, node)
        if isinstance(found, str):
            text = f"does not answer, its {count} shards wait: {found}"
            yield Finding(False, f"Postgres node {node}: {text}")
            continue
        weak = [f"{name} {value}" for name, value in found.items() if value in ("off", "0")]
        text = (
            f"{', '.join(weak)}: what it takes can be lost, or be there on one side only; set it" if weak else "is well"
        )
        yield Finding(not weak, f"Postgres node {node}: {count} shards, {text}")


async def of_postgres(dsn: str, keys: Keys) -> AsyncIterator[Finding]:
    """Whether it keeps what it takes, and is the database of these keys."""
    try:
        connection = await connect(dsn, "doctor")
    except ServersError as error:
        yield Finding(False, str(error))
        return
    try:
        try:
            await postgres.check_sessions(dsn)
        except SettingsError as error:
            yield Finding(False, f"Postgres: {error}")
            return
        version = await connection.fetchval("SHOW server_version")
        yield Finding(True, f"Postgres: version {version}")
        for name, why in (
            ("fsync", "a crash of the machine can corrupt the database"),
            ("synchronous_commit", "a crash can lose rows whose messages are trimmed from Redis already"),
            ("full_page_writes", "a crash of the machine can corrupt the database"),
        ):
            value = await connection.fetchval(f"SHOW {name}")
            yield Finding(
                value != "off", f"Postgres: {name} {value}" + (f": {why}; set it on" if value == "off" else "")
            )
        if found := await _standbys(connection):
            yield found
        async for finding in _nodes(connection):
            yield finding
        try:
            installation = await postgres.installation(connection)
            MasterKeys.fitting(installation.generations, keys)
        except SettingsError as error:
            yield Finding(False, f"Postgres: {error}")
            return
        yield Finding(True, f"Postgres: schema up to date, {installation.shards} shards, master key fits")
        tomorrow = await connection.fetchval(
            "SELECT to_regclass('events_' || to_char((now() AT TIME ZONE 'UTC') + interval '1 day', 'YYYYMMDD'))"
        )
        yield Finding(
            tomorrow is not None,
            "Postgres: the event log has tomorrow's partition"
            if tomorrow
            else "Postgres: the event log lacks tomorrow's partition: is a worker running?",
        )
        quarantined = await read_reachable(
            connection, range(installation.shards), functools.partial(connection.fetchval, _QUARANTINED)
        )
        lost = sum(quarantined.results)
        yield Finding(lost == 0, f"Postgres: {lost} messages in ingest_quarantine")
    finally:
        await connection.close()
