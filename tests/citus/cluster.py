"""Databases of their own on a cluster that is there, and nodes of them that are away."""

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import pytest

from schemas import distribution, postgres
from schemas.postgres import Connection
from tests.conftest import MASTER_KEY, SHARDS

FIRST_CONNECTION_S = 60.0
"""Types are looked up in the catalogues of a database that has no settings yet."""


class Cluster:
    """A coordinator that knows its nodes, by the DSN of a database there (`postgres`, say) with the extension."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.nodes: list[str] = []
        """host:port of each node that takes shards."""

    async def open(self) -> None:
        """Find the nodes."""
        connection = await asyncpg.connect(self._dsn)
        rows = await connection.fetch(
            """SELECT nodename, nodeport FROM pg_dist_node WHERE noderole = 'primary' AND shouldhaveshards
                ORDER BY nodeid"""
        )
        self.coordinator = f"{urlsplit(self._dsn).hostname}:{urlsplit(self._dsn).port or 5432}"
        self.nodes = [f"{row['nodename']}:{row['nodeport']}" for row in rows]
        await connection.close()

    def dsn(self, database: str, node: str | None = None) -> str:
        """A database on the coordinator, or on a node."""
        parts = urlsplit(self._dsn)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return urlunsplit(parts._replace(netloc=user + (node or self.coordinator), path=f"/{database}"))

    async def on(self, node: str, *statements: str, database: str = "postgres") -> None:
        """Run statements on one server."""
        connection = await asyncpg.connect(self.dsn(database, node))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def value(self, node: str, sql: str, database: str) -> Any:
        """What a statement finds on one server."""
        connection = await asyncpg.connect(self.dsn(database, node))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    async def freeze(self, node: str) -> list[psutil.Process]:
        """Let all processes of a node stand still, if it runs on this machine; returns them, to be resumed."""
        connection = await asyncpg.connect(self.dsn("postgres", node))
        try:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            parent = psutil.Process(pid).parent() if "127.0.0.1" in node and psutil.pid_exists(pid) else None
        finally:
            await connection.close()
        if parent is None:
            pytest.skip("the nodes of the cluster run on another machine")
        for process in (frozen := [parent, *parent.children(recursive=True)]):
            process.suspend()
        return frozen

    async def make(self, name: str, *, known: bool = True) -> str:
        """A database with the extension on all servers, whose coordinator knows the nodes; its DSN."""
        for node in (*self.nodes, self.coordinator):
            await self.on(node, f"CREATE DATABASE {name}")
            await self.on(node, "CREATE EXTENSION citus", database=name)
        if known:
            coordinator, *others = (node.rpartition(":") for node in (self.coordinator, *self.nodes))
            await self.on(
                self.coordinator,
                f"SELECT citus_set_coordinator_host('{coordinator[0]}', {coordinator[2]})",
                *(f"SELECT citus_add_node('{host}', {port})" for host, _, port in others),
                database=name,
            )
        return self.dsn(name)

    async def drop(self, name: str) -> None:
        """Drop it everywhere."""
        for node in (self.coordinator, *self.nodes):
            await self.on(
                node,
                f"UPDATE pg_database SET datallowconn = true WHERE datname = '{name}'",
                f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
            )

    async def take_away(self, node: str, name: str) -> None:
        """Let nobody connect to a database of a node, and end all who are."""
        await self.on(
            node,
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )

    async def bring_back(self, node: str, name: str) -> None:
        """Let them connect again."""
        await self.on(node, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def migrated(dsn: str) -> Connection:
    """A connection to a database with our schema, not distributed."""
    connection = await postgres.connect(dsn, "tests")
    async with asyncio.timeout(FIRST_CONNECTION_S):
        await postgres.migrate(connection, shards=SHARDS, master_key=MASTER_KEY)
    return connection


async def distributed(dsn: str) -> None:
    """Make our schema there, and distribute it."""
    connection = await migrated(dsn)
    await distribution.distribute(connection)
    await connection.close()
