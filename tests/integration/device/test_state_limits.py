"""What a device's state holds is limited: nobody is slowed down by one who sends ever new keys."""

from typing import Any

from edges import RunningEdge
from fleets import Fleet, Unit
from flushing import store_all
from owners import Owner

from schemas.redis import Redis
from workers.replies import ReplyRefresher


async def tell(edge: RunningEdge, redis_client: Redis, acme: Owner) -> None:
    """Store what was accepted, and let the worker tell the devices what follows."""
    await store_all(edge, redis_client)
    await acme.pool.execute("UPDATE reply_queue SET queued_at = queued_at - interval '1 minute'")
    await ReplyRefresher(acme.pool, redis_client).drain()


async def send(unit: Unit, keys: range, **more: Any) -> tuple[int, Any]:
    telemetries = {f"key {n}": n for n in keys} | more
    return await unit.ask("POST", "/telemetry", {"telemetries": telemetries})


async def state(unit: Unit) -> dict[str, Any]:
    answer: dict[str, Any] = (await unit.call("GET"))["state"]
    return answer


async def test_a_message_of_more_keys_than_a_state_holds_is_refused(fleet: Fleet, acme: Owner) -> None:
    """Whole, with a sentence; also as one of several. A model may hold more than others."""
    unit = await fleet.unit(claimed=True)
    refused = 422, {"error": "The state of this device would have 1001 keys, it holds 1000"}
    assert await send(unit, range(1_001)) == refused
    halves = [{"telemetries": {f"{half} {n}": n for n in range(501 - half)}} for half in (0, 1)]
    status, answer = await unit.ask("POST", "/children/telemetries", {unit.id: halves})
    assert (status, answer[unit.id]) == refused
    path = f"/models/{acme.model_id}"
    assert (await acme.call("PATCH", path, {"state_keys_max": 2_000}))["state_keys_max"] == 2_000
    assert (await send(unit, range(1_001)))[0] == 201


async def test_a_full_state_takes_no_new_keys_and_keeps_the_known_ones_up_to_date(
    edge: RunningEdge, fleet: Fleet, acme: Owner, redis_client: Redis
) -> None:
    """The first message too many is accepted and left out of the state; its owner sees that, the next is refused."""
    await acme.pool.execute("UPDATE device_models SET state_keys_max = 100")
    unit = await fleet.unit(claimed=True)
    assert (await send(unit, range(90)))[0] == 201
    await tell(edge, redis_client, acme)
    assert "state_full_at" not in await acme.call("GET", f"/devices/{unit.id}")
    assert (await send(unit, range(80, 150), **{"key 3": "new"}))[0] == 201
    await tell(edge, redis_client, acme)
    assert await state(unit) == {f"key {n}": n for n in range(100)} | {"key 3": "new", "status": None}
    assert "state_full_at" in await acme.call("GET", f"/devices/{unit.id}")
    assert (await send(unit, range(2)))[0] == 201  # its answer says that the state is full
    status, answer = await send(unit, range(150, 152))
    assert (status, answer["error"]) == (422, "The state of this device would have 102 keys, it holds 100")
    assert (await send(unit, range(99, 100), **{"key 3": "newer"}))[0] == 201

    # Once keys were removed there is room again.
    removed = {f"key {n}": None for n in range(50, 100)}
    assert (await unit.ask("POST", "/telemetry", {"telemetries": removed}))[0] == 201
    await tell(edge, redis_client, acme)
    assert "state_full_at" not in await acme.call("GET", f"/devices/{unit.id}")
    assert (await send(unit, range(150, 152)))[0] == 201
    await tell(edge, redis_client, acme)
    assert (await state(unit))["key 151"] == 151


async def test_a_state_has_a_limit_of_bytes(edge: RunningEdge, fleet: Fleet, acme: Owner, redis_client: Redis) -> None:
    """Few keys with long values pass it as well; history has them all."""
    await acme.pool.execute("UPDATE device_models SET state_bytes_max = 20000")
    unit = await fleet.unit(claimed=True)
    for number in range(4):
        long = {f"long {number} {n}": "x" * 1_000 for n in range(8)}
        await unit.ask("POST", "/telemetry", {"telemetries": long})
        await tell(edge, redis_client, acme)
    shown = await state(unit)
    assert 10 < len(shown) < 25
    refused = await unit.ask("POST", "/telemetry", {"telemetries": {f"more {n}": "x" * 900 for n in range(8)}})
    assert refused[0] == 422
    assert "bytes, it holds 20000" in refused[1]["error"]


async def test_everybody_is_shown_all_of_a_state_that_is_stored_in_two_parts(
    edge: RunningEdge, fleet: Fleet, acme: Owner, redis_client: Redis
) -> None:
    """Whatever changed or was removed since it was settled."""
    unit = await fleet.unit(claimed=True)
    await send(unit, range(900))
    await tell(edge, redis_client, acme)
    await unit.call(
        "POST", "/telemetry", {"status": "error", "telemetries": {"key 1": "new", "key 2": None, "more": 1}}
    )
    await tell(edge, redis_client, acme)
    expected = {f"key {n}": n for n in range(900) if n != 2} | {"key 1": "new", "more": 1, "status": "error"}
    assert await state(unit) == expected
    assert (await acme.call("GET", f"/devices/{unit.id}"))["state"] == expected
    read = await acme.partner("GET", f"/devices/{unit.id}/telemetries")
    assert read["telemetries"] | {"status": "error"} == expected
    row = await acme.pool.fetchrow("SELECT settled, telemetries, times FROM device_state")
    assert (len(row["settled"]), row["telemetries"]) == (900, {"key 1": "new", "more": 1})
    await unit.call("POST", "/telemetry", {"telemetries": {"only": 1}, "override": True})
    await tell(edge, redis_client, acme)
    assert await state(unit) == {"only": 1, "status": None}
    assert await acme.pool.fetchval("SELECT settled FROM device_state") is None
