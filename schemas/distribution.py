"""`fleetgate migrate --distribute`: spreads the data plane over the nodes of a Citus cluster, by shard.

What grows with messages goes to the nodes, each of our shards into a shard of its own there, and the shards evenly over
the nodes; everything else stays on the coordinator, `event_outbox` above all, which must be one transaction with the
changes it tells of. Nobody is moved because the extension happens to be there.

Each step is a transaction and looks first whether it was done, so a run that was killed is run again. A table is copied
while its writers wait; what it held before stays on the coordinator, unseen, until it is deleted in a step of its own.

A transaction that writes on both sides must be committed on both or on neither, which needs prepared transactions on
the nodes: with one remote write the extension commits that first, and then the local ones (see `two_phases`).
"""

import io
import logging
from typing import Any

from schemas import logs
from schemas.postgres import MIGRATION_TIMEOUT_S, Connection, migrating
from schemas.settings import SettingsError

log = logging.getLogger(__name__)

FIRST = "shards"
TABLES = (FIRST, "events", "device_state", "device_reported", "ingest_ledger", "ingest_quarantine")

SETTINGS = {
    # Looking up types in the catalogues takes seconds a connection, and theirs are not ours.
    "citus.override_table_visibility": "off",
    "jit": "off",
    # What SET LOCAL says of plans is meant for where they are made.
    "citus.propagate_set_commands": "'local'",
    # A node that does not answer holds up those who read others no longer than this.
    "citus.node_connection_timeout": "5000",
}
"""Of the database, on every server."""

KEEPING = ("fsync", "full_page_writes", "synchronous_commit", "max_prepared_transactions")

HELD = """
    pg_relation_size($1::text::regclass)
    + (SELECT coalesce(sum(pg_relation_size(relid)), 0)::bigint FROM pg_partition_tree($1::text::regclass))
"""
"""Bytes of a table and its partitions on the coordinator."""

_NO_ROWS = b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\xff\xff"

_NODES = """
    SELECT nodeid, nodename || ':' || nodeport AS name FROM pg_dist_node
     WHERE noderole = 'primary' AND isactive AND shouldhaveshards ORDER BY nodeid
"""
_ON_NODES = """
    SELECT node.nodename || ':' || node.nodeport AS name, r.success, r.result
      FROM run_command_on_all_nodes($1) r JOIN pg_dist_node node USING (nodeid)
"""


async def distribute(connection: Connection) -> list[str]:
    """Distribute what is not yet distributed; returns what was done, in words.

    Raises SettingsError, and changes nothing, where the database is no coordinator of a cluster that can hold it.
    """
    nodes = await _fit(connection)
    done: list[str] = []
    async with migrating(connection):
        await _settle(connection)
        count = await connection.fetchval("SELECT i.shards FROM installation i")
        if not await _is_distributed(connection, FIRST):
            await _distribute(connection, FIRST, "shard_count => 1, colocate_with => 'none'")
            done.append(FIRST)
        if await _split(connection, count, [node["nodeid"] for node in nodes]):
            done.append(f"{count} shards over {len(nodes)} nodes")
        for table in TABLES[1:]:
            if not await _is_distributed(connection, table):
                await _distribute(connection, table, f"colocate_with => '{FIRST}'")
                done.append(table)
        for table in [table for table in TABLES if await _delete_local(connection, table)]:
            done.append(f"{table}: what lay on the coordinator was deleted")  # noqa: PERF401
    return done


async def _fit(connection: Connection) -> list[Any]:
    """The nodes that take shards. Raises SettingsError, in words, where something is missing."""
    if not await connection.fetchval("SELECT true FROM pg_extension WHERE extname = 'citus'"):
        raise SettingsError(
            "the database has no extension citus: on every server set shared_preload_libraries = 'citus', create a "
            "database of the same name and in it CREATE EXTENSION citus (see docs/scaling.md)"
        )
    nodes = await connection.fetch(_NODES)
    if not nodes:
        raise SettingsError(
            "no nodes are known that take shards: on the coordinator SELECT citus_set_coordinator_host('HOST', PORT), "
            "and for each node SELECT citus_add_node('HOST', PORT)"
        )
    for answer in await connection.fetch(_ON_NODES, "SHOW max_prepared_transactions"):
        if not answer["success"]:
            raise SettingsError(f"the node {answer['name']} does not answer: {answer['result']}")
        if answer["result"] == "0":
            raise SettingsError(
                f"max_prepared_transactions is 0 on {answer['name']}: what is written there and on the coordinator "
                "would not be one transaction; set it to at least max_connections on every server, and restart them"
            )
    return list(nodes)


async def _settle(connection: Connection) -> None:
    """Set what new sessions begin with, on every server: the extension hands it on."""
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    for name, value in SETTINGS.items():
        await connection.execute(f"ALTER DATABASE {database} SET {name} = {value}")


async def _is_distributed(connection: Connection, table: str) -> bool:
    return bool(
        await connection.fetchval("SELECT true FROM pg_dist_partition WHERE logicalrelid = to_regclass($1)", table)
    )


async def _distribute(connection: Connection, table: str, how: str) -> None:
    logs.event(log, logging.INFO, "table_distributing", table=table)
    await connection.execute(f"SELECT create_distributed_table('{table}', 'shard', {how})", timeout=MIGRATION_TIMEOUT_S)


async def _split(connection: Connection, count: int, node_ids: list[int]) -> bool:
    """Split the one shard of the first table so that each of our shards has one to itself; returns whether it was.

    Rows are placed by a hash of their shard: the hashes of our shards are where it is cut. Those of a number lie on
    the nodes in turn.
    """
    placed = await connection.fetch("SELECT shardid FROM pg_dist_shard WHERE logicalrelid = to_regclass($1)", FIRST)
    if len(placed) > 1 or count == 1:
        return False
    in_order = await connection.fetch(
        "SELECT n, worker_hash(n::smallint) AS hash FROM generate_series(0, $1 - 1) AS n ORDER BY hash", count
    )
    await connection.execute(
        "SELECT citus_split_shard_by_split_points($1, $2::text[], $3::integer[], 'block_writes')",
        placed[0]["shardid"],
        [str(row["hash"]) for row in in_order[:-1]],
        [node_ids[row["n"] % len(node_ids)] for row in in_order],
        timeout=MIGRATION_TIMEOUT_S,
    )
    return True


async def _delete_local(connection: Connection, table: str) -> bool:
    """Delete what a table held before, on the coordinator; returns whether it held anything."""
    held: int = await connection.fetchval(f"SELECT {HELD}", table)
    if held:
        await connection.execute(
            "SELECT truncate_local_data_after_distributing_table($1::regclass)", table, timeout=MIGRATION_TIMEOUT_S
        )
    return bool(held)


async def settings_of(connection: Connection, node: str) -> dict[str, str] | str:
    """What a node does to keep what it takes: settings by name; or why it does not answer."""
    found = {}
    for name in KEEPING:
        answer: Any = await connection.fetchrow(
            f"SELECT * FROM ({_ON_NODES}) n WHERE n.name = $2", f"SHOW {name}", node
        )
        if not answer["success"]:
            return str(answer["result"])
        found[name] = answer["result"]
    return found


async def two_phases(connection: Connection) -> None:
    """Let the transaction that is open be committed on its nodes and on the coordinator, or on neither.

    A COPY does that, whether or not it has rows.
    """
    await connection.copy_to_table(FIRST, source=io.BytesIO(_NO_ROWS), columns=["shard"], format="binary")
