"""Whoever changes several devices locks them in the order of their ids, and commands after them: no circle of waits."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from owners import Owner
from prometheus_client import CollectorRegistry

from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.commands import delivery
from gateway.stores.connectors import cloud_connectors
from gateway.stores.devices import deletion, identity, self_report
from schemas import device_trees, ids, replies
from schemas.metrics import Metrics
from schemas.postgres import Connection
from workers.command_clock import CommandClock


class Tree(NamedTuple):
    """A device below a device that is younger, so that the order of ids is not that of parents."""

    owner: Owner
    services: Services
    low: UUID
    top: UUID
    command: UUID
    """Of the lower one."""


@pytest.fixture(params=["claimed"])
async def tree(edge: Any, acme: Owner, request: pytest.FixtureRequest) -> Tree:
    claimed = request.param != "unclaimed"
    low, top = ids.new_id(), ids.new_id()
    for device_id in (top, low):  # not as they lie in the table either
        await acme.device(id=device_id, claimed=claimed)
    if request.param != "apart":
        await acme.pool.execute("UPDATE devices SET parent_id = $2 WHERE id = $1", low, top)
    command = low
    if claimed:
        command = UUID((await acme.call("POST", f"/devices/{low}/commands", {"command": "reboot"}))["id"])
    return Tree(acme, edge.services, low, top, command)


@asynccontextmanager
async def held(tree: Tree, device_id: UUID) -> AsyncIterator[Connection]:
    """Somebody else has a device locked."""
    async with tree.owner.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM devices WHERE id = $1 FOR NO KEY UPDATE", device_id)
        yield connection


async def waits(acting: asyncio.Task[Any], holder: Connection) -> None:
    """Come back once it waits for a lock of this connection."""
    while not await holder.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
    ):
        assert not acting.done(), acting


async def move(tree: Tree) -> None:
    attic = await tree.owner.call("POST", "/spaces", {"project_id": str(tree.owner.project_id), "name": "Attic"})
    await tree.owner.call("POST", f"/devices/{tree.top}/move", {"space_id": attic["id"]})


async def claim(tree: Tree) -> None:
    row = await tree.owner.row(tree.top)
    body = {"space_id": str(tree.owner.space_id), "mac": row["mac"], "sn": row["sn"]}
    await tree.owner.call("POST", "/devices/claim", body)


async def delete_as_owner(tree: Tree) -> None:
    await tree.owner.call("DELETE", f"/devices/{tree.top}")


async def delete_as_vendor(tree: Tree) -> None:
    await tree.owner.partner("DELETE", f"/devices/{tree.top}")


async def delete_connector(tree: Tree) -> None:
    """It imported both, the younger one first."""
    owner = tree.owner
    connector_id = ids.new_xid()
    await owner.pool.execute(
        """INSERT INTO cloud_connectors (id, organization_id, project_id, space_id, provider, name)
           VALUES ($1, $2, $3, $4, 'x', 'X')""",
        connector_id,
        owner.organization_id,
        owner.project_id,
        owner.space_id,
    )
    for vendor_id, device_id in enumerate((tree.top, tree.low)):
        await owner.pool.execute(
            "INSERT INTO cloud_devices (connector_id, vendor_id, device_id, name) VALUES ($1, $2, $3, '')",
            connector_id,
            str(vendor_id),
            device_id,
        )
    async with change(tree.services) as changed:
        await cloud_connectors.delete(changed, owner.organization_id, connector_id, "X")


async def rename_space(tree: Tree) -> None:
    await tree.owner.call("PATCH", f"/spaces/{tree.owner.space_id}", {"name": "Hangar"})


async def limit_model(tree: Tree) -> None:
    await tree.owner.pool.execute("UPDATE device_models SET rate_limit = 31 WHERE id = $1", tree.owner.model_id)


async def cancel_command(tree: Tree) -> None:
    await tree.owner.call("DELETE", f"/devices/{tree.low}/commands/{tree.command}")


async def report_command(tree: Tree) -> None:
    async with change(tree.services) as changed:
        await delivery.report(changed, tree.low, tree.command, "done", None)


async def replace(tree: Tree) -> None:
    """By a unit that has registered."""
    row = await tree.owner.row(tree.low)
    await tree.owner.call("POST", f"/devices/{tree.top}/replace", {"sn": row["sn"], "mac": row["mac"]})


async def new_parent(tree: Tree) -> None:
    """The older one below the younger one."""
    async with change(tree.services) as changed:
        caller = await identity.by_key(changed.connection, tree.low, 0)
        await self_report.lock_new_parent(changed.connection, caller, tree.top)


@pytest.mark.parametrize(
    ("tree", "action"),
    [
        ("claimed", move),
        ("unclaimed", claim),
        ("claimed", delete_as_owner),
        ("claimed", delete_as_vendor),
        ("apart", delete_connector),
        ("apart", new_parent),
        ("apart", replace),
        ("claimed", rename_space),
        ("claimed", limit_model),
        ("claimed", cancel_command),
        ("claimed", report_command),
    ],
    indirect=["tree"],
)
async def test_the_device_with_the_lowest_id_is_locked_first(
    tree: Tree, action: Callable[[Tree], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While that one is not to be had, no other and no command is held: nobody can wait for the waiting one."""
    monkeypatch.setattr(deletion, "BATCH", 1)
    async with held(tree, tree.low) as holder:
        acting = asyncio.create_task(action(tree))
        await waits(acting, holder)
        await holder.execute("SELECT FROM devices WHERE id = $1 FOR NO KEY UPDATE NOWAIT", tree.top)
        await holder.execute("SELECT FROM commands WHERE id = $1 FOR NO KEY UPDATE NOWAIT", tree.command)
    await acting


async def test_what_comes_below_a_device_meanwhile_is_locked_too(tree: Tree) -> None:
    """In its turn: what was locked by then is given back and locked anew."""
    owner = tree.owner
    first = UUID(int=1)
    await owner.device(id=first)

    async def lock() -> bool:
        async with change(tree.services) as changed:
            await device_trees.lock_trees(changed.connection, device_trees.THESE, [tree.top])
            statement = "SELECT id FROM devices WHERE id = $1 FOR UPDATE SKIP LOCKED"
            return await owner.pool.fetchval(statement, first) is None

    async with held(tree, tree.low) as holder:
        locking_it = asyncio.create_task(lock())
        await waits(locking_it, holder)
        await holder.execute("UPDATE devices SET parent_id = $2 WHERE id = $1", first, tree.low)
    assert await locking_it


async def test_the_command_clock_waits_for_no_device(tree: Tree) -> None:
    """It comes back for commands of a device that somebody changes just now."""
    clock = CommandClock(tree.owner.pool, tree.services.redis, Metrics(CollectorRegistry()))
    await tree.owner.pool.execute("UPDATE commands SET expires_at = now() - interval '1 s'")
    async with held(tree, tree.low):
        assert await clock.advance() == 0
    assert await clock.advance() == 1


async def test_whoever_wrote_replies_waits_for_no_change(tree: Tree) -> None:
    """What a change under way queues anew stays in the queue."""
    await tree.owner.pool.execute("UPDATE devices SET info_version = 8 WHERE id = $1", tree.low)
    async with tree.owner.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE devices SET info_version = 9 WHERE id = $1", tree.low)
        async with tree.owner.pool.acquire() as writer:
            await replies.write(writer, tree.services.redis, [tree.low, tree.top])
    assert tree.low in [row["device_id"] for row in await tree.owner.pool.fetch("SELECT device_id FROM reply_queue")]


async def test_changes_of_the_same_devices_at_once_all_end(edge: Any, acme: Owner) -> None:
    """Moves, deletions, commands and changes of their space: none is told that another was in its way."""
    attic = (await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": "Attic"}))["id"]
    devices = [await acme.device() for _ in range(9)]
    below = {0: 1, 1: 2, 3: 2, 2: 8, 7: 6, 4: 6, 6: 5, 5: 8}
    for child, parent in below.items():
        await acme.pool.execute("UPDATE devices SET parent_id = $2 WHERE id = $1", devices[child], devices[parent])
    for device_id in devices:
        await acme.call("POST", f"/devices/{device_id}/commands", {"command": "reboot"})
    await acme.pool.execute("UPDATE commands SET expires_at = now() - interval '1 s'")
    clock = CommandClock(acme.pool, edge.services.redis, Metrics(CollectorRegistry()))
    answers = await asyncio.gather(
        *(
            acme.call("POST", f"/devices/{devices[top]}/move", {"space_id": space})
            for top, space in itertools.product((8, 5, 6, 2), (attic, str(acme.space_id)))
        ),
        *(acme.call("PATCH", f"/spaces/{attic}", {"name": name}) for name in ("Loft", "Garret")),
        clock.advance(),
        *(acme.call("DELETE", f"/devices/{devices[top]}") for top in (1, 6, 8)),
        acme.partner("DELETE", f"/devices/{devices[8]}"),
    )
    assert {answer[0] for answer in answers if isinstance(answer, tuple)} <= {404}
    assert await acme.pool.fetchval("SELECT count(*) FROM devices WHERE deleted_at IS NULL") == 0
