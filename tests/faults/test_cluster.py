"""The same code on a Redis Cluster: three masters, shards spread over them by their hash tags."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.cli.local.embedded import EmbeddedValkey, free_port
from schemas import keys
from tests.faults.stack import SHARDS, Load, Stack, assert_stored_once, assert_told_of_command, send_command

NODES = 3
SLOTS = 16_384


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[EmbeddedValkey]]:
    """Three masters that know each other and cover all slots."""
    nodes = [EmbeddedValkey(tmp_path / f"node-{n}" / "valkey", port=free_port()) for n in range(NODES)]
    for node in nodes:
        node.folder.parent.mkdir()
        node.start(cluster_enabled="yes", cluster_port=str(free_port()), cluster_node_timeout="2000")
    clients = [Redis(port=node.port) for node in nodes]
    for place, client in enumerate(clients):
        last = SLOTS - 1 if place == NODES - 1 else (place + 1) * (SLOTS // NODES) - 1
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", place * (SLOTS // NODES), last)
    buses = [int(node._settings["cluster-port"]) for node in nodes]
    for node, bus in zip(nodes[1:], buses[1:], strict=True):
        await clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
    async with asyncio.timeout(30):
        for client in clients:
            while b"cluster_state:ok" not in await raw(
                client, "CLUSTER", "INFO"
            ) or b"cluster_known_nodes:3" not in await raw(client, "CLUSTER", "INFO"):
                await asyncio.sleep(0.05)
    for client in clients:
        await client.aclose()
    yield nodes
    for node in nodes:
        node.stop()


async def raw(client: Redis, *words: Any) -> bytes:
    """A command's answer as Redis sends it."""
    answer = await client.execute_command(*words)
    if isinstance(answer, dict):
        return "\n".join(f"{name}:{value}" for name, value in answer.items()).encode()
    return answer if isinstance(answer, bytes) else str(answer).encode()


async def test_the_whole_flow_on_three_masters(stack: Stack, cluster: list[EmbeddedValkey]) -> None:
    """Messages of all shards are stored once, a command is told, and one master's restart is survived."""
    stack.redis_url = f"redis+cluster://127.0.0.1:{cluster[0].port}"
    await stack.edge()
    await stack.worker()
    await stack.until_answers("/readyz")
    command_id = await send_command(stack, stack.devices[0])
    async with Load(stack) as load:
        await load.until(300)
        cluster[1].kill()
        await load.until_status(503)
        cluster[1].start()
        await load.until(300)
    await assert_stored_once(stack, load)
    await assert_told_of_command(stack, stack.devices[0], command_id)
    holding = 0
    for node in cluster:
        client = Redis(port=node.port)
        holding += len(await client.keys("{*}:ingest")) > 0
        await client.aclose()
    assert holding > 1


async def test_a_shard_that_moves_to_another_master_under_load(stack: Stack, cluster: list[EmbeddedValkey]) -> None:
    """Edges and workers follow it; what was acknowledged on either side is stored once."""
    stack.redis_url = f"redis+cluster://127.0.0.1:{cluster[0].port}"
    await stack.edge()
    await stack.worker()
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(200)
        await move(cluster, keys.ingest(0))
        await load.until(400)
    await assert_stored_once(stack, load)
    assert set(range(SHARDS)) == {
        await stack.query("SELECT shard FROM ingest_ledger WHERE shard = $1 AND outcome = 'stored'", shard)
        for shard in range(SHARDS)
    }


async def move(cluster: list[EmbeddedValkey], key: str) -> None:
    """Move the slot of a key to another master, as an operator's tool does."""
    clients = [Redis(port=node.port) for node in cluster]
    slot = await clients[0].execute_command("CLUSTER", "KEYSLOT", key)
    ids = [(await raw(client, "CLUSTER", "MYID")).decode() for client in clients]
    place = min(int(slot) // (SLOTS // NODES), NODES - 1)
    source, target = clients[place], clients[(place + 1) % NODES]
    source_id, target_id = ids[place], ids[(place + 1) % NODES]
    await target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    await source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while names := await source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
        port = cluster[(place + 1) % NODES].port
        await source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *names)
    for client in (target, source, clients[(place + 2) % NODES]):
        await client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    for client in clients:
        await client.aclose()
