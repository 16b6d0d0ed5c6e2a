"""One node away, while devices send and receivers are owed: what lies there waits, all else goes on."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from webhooks import Project, Receiver, answers, make_project, until

from gateway.cli.servers import Servers
from gateway.operations import findings
from schemas import ids, placement, postgres
from schemas.placement import Placement
from tests.citus.cluster import Cluster
from tests.conftest import MASTER_KEY, SHARDS
from tests.faults.stack import Load, Stack, assert_stored_once


class Distributed:
    """What a stack needs of its server: it runs already."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def dsn(self) -> str:
        return self._dsn

    def start(self) -> None:
        """It runs."""

    def stop(self, how: object = None) -> None:
        """It goes on."""


@pytest.fixture
async def stack(tmp_path: Path, dsn: str) -> AsyncIterator[Stack]:
    """Processes around a distributed database."""
    made = Stack(tmp_path, Distributed(dsn))
    try:
        await made.open()
        yield made
    finally:
        await made.close()


@pytest.fixture
async def placed(dsn: str) -> Placement:
    """Where the shards lie."""
    connection = await postgres.connect(dsn, "tests")
    found = await placement.find(connection)
    await connection.close()
    return found


@pytest.fixture
async def project(dsn: str) -> AsyncIterator[Project]:
    """A project with devices in several shards."""
    pool = await postgres.create_pool(dsn, "tests", 4)
    yield await make_project(pool, dsn)
    await pool.close()


async def stored_in(dsn: str, shards: list[int]) -> int:
    """How many messages were stored in these shards."""
    connection = await postgres.connect(dsn, "tests")
    try:
        found: int = await connection.fetchval(
            """SELECT coalesce(sum(count), 0)::int FROM ingest_ledger
                WHERE shard = ANY($1::smallint[]) AND outcome = 'stored'""",
            shards,
        )
        return found
    finally:
        await connection.close()


async def test_its_shards_wait_the_others_go_on_and_nothing_is_lost(
    stack: Stack, dsn: str, name: str, cluster: Cluster, placed: Placement
) -> None:
    """Messages are answered all the time, and each is stored once when the node is back."""
    [_, away] = placed.apart(range(SHARDS))
    others = [shard for shard in range(SHARDS) if shard not in away]
    await stack.edge()
    await stack.worker()
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(300)
        await cluster.take_away(placed.of(away[0]), name)
        begun = await stored_in(dsn, others)
        await load.until(300)
        await until(lambda: _more_than(dsn, others, begun + 100))
        status, devices, _ = await stack.call("GET", "/core/v1/organization/devices?per_page=100")
        assert status == 200
        waiting = {device["id"] for device in devices["items"] if device.get("state_away")}
        assert len(waiting) == len(stack.devices) // 2
        await cluster.bring_back(placed.of(away[0]), name)
        await load.until(100)
    await assert_stored_once(stack, load)


async def _more_than(dsn: str, shards: list[int], stored: int) -> bool:
    return await stored_in(dsn, shards) > stored


async def test_deliveries_of_the_other_nodes_go_on(
    project: Project, name: str, cluster: Cluster, placed: Placement
) -> None:
    """What is new and what is tried again; that of the node that is away is sent when it is back, and all adds up."""
    [here, away] = (of_node(project, shards) for shards in placed.apart(range(SHARDS)))
    node = placed.of(placed.apart(range(SHARDS))[1][0])
    async with Receiver() as receiver:
        connector = await project.connector(receiver.url)
        async with project.dispatcher(placement=placed):
            first = await project.happen(40)
            await until(lambda: set(first) <= receiver.counts.keys())
            receiver.behave = answers(503)
            failed_here, failed_away = await here.happen(1), await away.happen(1)
            await until(lambda: {*failed_here, *failed_away} <= receiver.counts.keys())
            await cluster.take_away(node, name)
            before = len(receiver.received)
            receiver.behave = answers(200)
            new = await here.happen(200)
            await until(lambda: {*failed_here, *new} <= set(receiver.event_ids[before:]))
            assert not set(failed_away) & set(receiver.event_ids[before:])

            async def waits() -> bool:
                return (await project.ledger(connector)).pending == len(failed_away)

            await until(waits)
            await cluster.bring_back(node, name)
            late = await away.happen(20)
            await until(lambda: {*failed_away, *late} <= set(receiver.event_ids[before:]))
            ledger = await until(lambda: project.settled(connector))
    assert ledger.delivered == ledger.accepted == len({*first, *failed_here, *failed_away, *new, *late})


def of_node(project: Project, shards: list[int]) -> Project:
    """The project with those of its devices that lie in these shards."""
    devices = [one for one in project.devices if ids.shard_of(str(one).encode(), SHARDS) in shards]
    assert devices
    return dataclasses.replace(project, devices=devices)


async def test_a_node_that_stands_still_holds_up_its_own_shards_alone(
    stack: Stack, project: Project, dsn: str, cluster: Cluster, placed: Placement
) -> None:
    """It neither answers nor refuses: messages are answered, lists too, and what is others' is stored and delivered."""
    [here, _] = (of_node(project, shards) for shards in placed.apart(range(SHARDS)))
    [others, away] = placed.apart(range(SHARDS))
    await stack.edge()
    await stack.worker(FLEETGATE_WORKER_ROLES="flusher")
    await stack.until_answers("/readyz")
    async with Receiver() as receiver, Load(stack) as load:
        await project.connector(receiver.url)
        async with project.dispatcher(placement=placed):
            first = await project.happen(40)
            await until(lambda: set(first) <= receiver.counts.keys())
            await load.until(300)
            frozen = await cluster.freeze(placed.of(away[0]))
            try:
                begun = await stored_in(dsn, others)
                await load.until(300)
                await until(lambda: _more_than(dsn, others, begun + 100))
                new = await here.happen(200)
                await until(lambda: set(new) <= receiver.counts.keys())
                status, devices, _ = await stack.call("GET", "/core/v1/organization/devices?per_page=100")
                assert status == 200
                assert any(device.get("state_away") for device in devices["items"])
            finally:
                for process in frozen:
                    process.resume()
            await load.until(100)
    await assert_stored_once(stack, load)


async def test_a_connector_is_served_by_a_dispatcher_that_starts_while_a_node_is_away(
    project: Project, name: str, cluster: Cluster, placed: Placement
) -> None:
    """It begins where connectors are, and goes on to the other shards when their node is back."""
    [here, away] = (of_node(project, shards) for shards in placed.apart(range(SHARDS)))
    node = placed.of(placed.apart(range(SHARDS))[1][0])
    async with Receiver() as receiver:
        connector = await project.connector(receiver.url)
        owed = await project.happen(40)
        await cluster.take_away(node, name)
        async with project.dispatcher(placement=placed):
            new = await here.happen(40)
            await until(lambda: set(new) <= receiver.counts.keys())
            await cluster.bring_back(node, name)
            late = await away.happen(40)
            await until(lambda: {*owed, *late} <= receiver.counts.keys())
            ledger = await until(lambda: project.settled(connector))
    assert ledger.delivered == ledger.accepted == len(owed) + len(new) + len(late)


async def test_the_doctor_looks_at_every_node(dsn: str, name: str, cluster: Cluster) -> None:
    """And names the one that does not answer."""
    servers = Servers(postgres_dsn=dsn, redis_url="", master_key=MASTER_KEY)

    async def said() -> dict[str, bool]:
        looked = [finding async for finding in findings.of_postgres(dsn, servers) if "node" in finding.text]
        return {node: finding.good for node in cluster.nodes for finding in looked if node in finding.text}

    assert await said() == dict.fromkeys(cluster.nodes, True)
    await cluster.take_away(cluster.nodes[0], name)
    assert await said() == dict.fromkeys(cluster.nodes, True) | {cluster.nodes[0]: False}
