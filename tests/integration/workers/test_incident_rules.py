"""Rules open and close incidents by what devices tell, in the transaction that stores it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flushing import drain, flushers, send, store_all
from owners import Owner

from schemas import ids
from schemas.redis import Redis
from workers.flusher.flusher import Flusher

NOW = datetime.now(UTC) - timedelta(hours=1)

Tell = Callable[..., Awaitable[None]]


def after(seconds: float) -> str:
    """A time of a device, so long after the first."""
    return (NOW + timedelta(seconds=seconds)).isoformat()


async def rule(owner: Owner, comparison: str = "gt", value: Any = 80, **columns: Any) -> UUID:
    """A rule about the key `disk`, for the owner's devices of its model unless told otherwise."""
    if not columns.keys() & {"model_id", "project_id", "space_id"}:
        columns["model_id"] = owner.model_id
    columns = {
        "id": ids.new_id(), "organization_id": owner.organization_id, "as_vendor": False, "telemetry_key": "disk",
        "comparison": comparison, "value": value, "title": "Full",
    } | columns  # fmt: skip
    marks = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    await owner.pool.execute(f"INSERT INTO incident_rules ({', '.join(columns)}) VALUES ({marks})", *columns.values())
    rule_id: UUID = columns["id"]
    return rule_id


async def found(owner: Owner, device_id: UUID) -> list[tuple[Any, Any]]:
    """The values that incidents of the device were opened and closed with; those that are open have True for it."""
    rows = await owner.pool.fetch(
        "SELECT opened_value, closed_value, closed_at FROM incidents WHERE device_id = $1 ORDER BY id", device_id
    )
    return [(row["opened_value"], row["closed_at"] is None or row["closed_value"]) for row in rows]


@pytest.fixture
def shards(edge: Any, redis_client: Redis) -> list[Flusher]:
    return flushers(edge, redis_client)[0]


@pytest.fixture
def tell(edge: Any, shards: list[Flusher]) -> Tell:
    async def tell(device_id: UUID, seconds: float, **message: Any) -> None:
        """Send and store one message, with a time so long after the first."""
        await send(edge, device_id, timestamp=after(seconds), **message)
        await drain(shards)

    return tell


async def test_a_rule_opens_an_incident_with_its_value_and_closes_it_beyond_the_hysteresis(
    acme: Owner, tell: Tell
) -> None:
    """Title, priority and rule stand in it; events tell of both with the values; nothing is opened twice."""
    device_id = await acme.device()
    await tell(device_id, 0, telemetries={"disk": 99})
    rule_id = await rule(acme, hysteresis=5, priority=2, description="Delete something")
    for n, disk in enumerate((80, 81, 90, 76, 75, 79)):
        await tell(device_id, n + 1, telemetries={"disk": disk, "n": n})
    [row] = await acme.pool.fetch("SELECT * FROM incidents WHERE device_id = $1", device_id)
    assert (row["kind"], row["title"], row["priority"], row["rule_id"]) == ("rule", "Full", 2, rule_id)
    assert (row["description"], row["opened_value"], row["closed_value"]) == ("Delete something", 81, 75)
    events = await acme.pool.fetch("SELECT type, data FROM events WHERE type LIKE 'incident%' ORDER BY seq")
    assert [(one["type"], one["data"][one["type"]]["value"]) for one in events] == [
        ("incidentOpened", 81),
        ("incidentClosed", 75),
    ]


async def test_a_rule_is_for_a_model_a_project_or_a_space_and_all_below_it(
    acme: Owner, globex: Owner, tell: Tell
) -> None:
    """An owner's rule of a model is for the owner's devices, a vendor's for all of the model."""
    top = (await acme.call("POST", "/spaces", {"name": "Top", "project_id": str(acme.project_id)}))["id"]
    below = (await acme.call("POST", "/spaces", {"name": "Below", "parent_id": top}))["id"]
    inside, outside = await acme.device(space_id=UUID(below)), await acme.device()
    others = await globex.device(model_id=acme.model_id)
    await rule(acme, telemetry_key="of the model")
    await rule(acme, telemetry_key="of the vendor", as_vendor=True)
    await rule(acme, telemetry_key="of the project", project_id=acme.project_id)
    await rule(acme, telemetry_key="of the space", space_id=UUID(top))
    await rule(acme, telemetry_key="switched off", enabled=False)
    keys = ["of the model", "of the vendor", "of the project", "of the space", "switched off"]
    for device_id in (inside, outside, others):
        await tell(device_id, 0, telemetries=dict.fromkeys(keys, 90))
    rows = await acme.pool.fetch(
        """SELECT i.device_id, array_agg(r.telemetry_key ORDER BY r.id) AS keys
             FROM incidents i JOIN incident_rules r ON r.id = i.rule_id GROUP BY 1"""
    )
    assert dict(map(tuple, rows)) == {inside: keys[:4], outside: keys[:3], others: keys[1:2]}


async def test_a_rule_counts_from_the_next_message_on_and_so_does_a_change_of_it(acme: Owner, tell: Tell) -> None:
    """Whether it was made, changed, or its space was moved: flushers ask with each batch whether anything changed."""
    device_id = await acme.device()
    await tell(device_id, 0, telemetries={"disk": 50})
    rule_id = await rule(acme)
    await tell(device_id, 1, telemetries={"disk": 50})
    assert await found(acme, device_id) == []
    await acme.pool.execute("UPDATE incident_rules SET value = '40' WHERE id = $1", rule_id)
    await tell(device_id, 2, telemetries={"disk": 50})
    assert await found(acme, device_id) == [(50, True)]
    await acme.pool.execute("UPDATE incident_rules SET value = '60' WHERE id = $1", rule_id)
    await tell(device_id, 3, telemetries={"disk": 55})
    assert await found(acme, device_id) == [(50, 55)]


async def test_for_how_long_a_rule_holds_survives_restarts_and_messages_without_its_key(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """By the times of the messages; what did not hold in between begins anew."""
    device_id = await acme.device()
    await rule(acme, duration_s=60)
    steps = [
        (0, {"disk": 90}, []), (40, {"disk": 70}, []), (50, {"disk": 91}, []), (100, {"n": 1}, []),
        (110, {"n": 2}, [(91, True)]), (120, {"disk": 10}, [(91, 10)]),
    ]  # fmt: skip
    for seconds, telemetries, expected in steps:
        await send(edge, device_id, timestamp=after(seconds), telemetries=telemetries)
        await store_all(edge, redis_client)  # by flushers that know of nothing
        assert await found(acme, device_id) == expected


async def test_late_messages_neither_open_nor_close(acme: Owner, tell: Tell) -> None:
    """What a device told before its newest value of the key is over, whichever way it was."""
    device_id = await acme.device()
    await rule(acme)
    await tell(device_id, 100, telemetries={"disk": 50})
    await tell(device_id, 90, telemetries={"disk": 99})
    assert await found(acme, device_id) == []
    await tell(device_id, 200, telemetries={"disk": 90})
    await tell(device_id, 190, telemetries={"disk": 10})
    await tell(device_id, 300, telemetries={"n": 1})
    assert await found(acme, device_id) == [(90, True)]
    await tell(device_id, 250, telemetries={"disk": 20})  # late, and the newest value of the key all the same
    assert await found(acme, device_id) == [(90, 20)]


async def test_what_opens_and_closes_within_one_batch_is_recorded(
    edge: Any, acme: Owner, shards: list[Flusher]
) -> None:
    """Each time, in order."""
    device_id = await acme.device()
    await rule(acme)
    for n, disk in enumerate((90, 10, 91, 11, 92)):
        await send(edge, device_id, timestamp=after(n), telemetries={"disk": disk})
    await drain(shards)
    assert await found(acme, device_id) == [(90, 10), (91, 11), (92, True)]


@pytest.mark.parametrize("message", [{"telemetries": {"disk": None}}, {"telemetries": {"n": 1}, "override": True}])
async def test_a_value_that_is_taken_away_closes(message: dict[str, Any], acme: Owner, tell: Tell) -> None:
    """By null, or by a message that replaces all."""
    device_id = await acme.device()
    await rule(acme)
    await tell(device_id, 0, telemetries={"disk": 90})
    assert await found(acme, device_id) == [(90, True)]
    await tell(device_id, 1, **message)
    assert await found(acme, device_id) == [(90, None)]


async def test_a_rule_that_is_switched_off_keeps_what_it_opened(acme: Owner, tell: Tell) -> None:
    """Switched on again it closes that."""
    device_id = await acme.device()
    rule_id = await rule(acme)
    await tell(device_id, 0, telemetries={"disk": 90})
    await acme.pool.execute("UPDATE incident_rules SET enabled = false WHERE id = $1", rule_id)
    await tell(device_id, 1, telemetries={"disk": 10})
    assert await found(acme, device_id) == [(90, True)]
    await acme.pool.execute("UPDATE incident_rules SET enabled = true WHERE id = $1", rule_id)
    await tell(device_id, 2, telemetries={"disk": 11})
    assert await found(acme, device_id) == [(90, 11)]


async def test_what_a_device_opened_by_a_rule_of_where_it_was_is_closed_when_it_left(acme: Owner, tell: Tell) -> None:
    """With its next message, whatever that tells."""
    device_id = await acme.device()
    await rule(acme, space_id=acme.space_id)
    await tell(device_id, 0, telemetries={"disk": 90})
    other = (await acme.call("POST", "/spaces", {"name": "Other", "project_id": str(acme.project_id)}))["id"]
    await acme.pool.execute("UPDATE devices SET space_id = $2 WHERE id = $1", device_id, UUID(other))
    await tell(device_id, 1, telemetries={"n": 1})
    assert await found(acme, device_id) == [(90, None)]


async def test_what_could_not_be_opened_is_opened_when_it_can_be(acme: Owner, tell: Tell) -> None:
    """A device whose incidents are suspended has one as soon as they are not, if the rule still holds."""
    device_id = await acme.device()
    await rule(acme)
    await acme.pool.execute("UPDATE devices SET incidents_suspended = true WHERE id = $1", device_id)
    await tell(device_id, 0, telemetries={"disk": 90})
    await tell(device_id, 1, telemetries={"n": 1})
    assert await found(acme, device_id) == []
    await acme.pool.execute("UPDATE devices SET incidents_suspended = false WHERE id = $1", device_id)
    await tell(device_id, 2, telemetries={"n": 2})
    assert await found(acme, device_id) == [(90, True)]


async def test_an_incident_that_a_person_closed_is_opened_again_only_after_it_was_released(
    acme: Owner, tell: Tell
) -> None:
    """Closing says that somebody knows."""
    device_id = await acme.device()
    await rule(acme)
    await tell(device_id, 0, telemetries={"disk": 90})
    await acme.pool.execute("UPDATE incidents SET closed_at = now() WHERE device_id = $1", device_id)
    await tell(device_id, 1, telemetries={"disk": 91})
    assert len(await found(acme, device_id)) == 1
    await tell(device_id, 2, telemetries={"disk": 10})
    await tell(device_id, 3, telemetries={"disk": 92})
    assert await found(acme, device_id) == [(90, None), (92, True)]


async def test_a_batch_that_was_not_stored_opened_nothing(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """A flusher that dies before it commits is followed by one that finds all as it was."""
    device_id = await acme.device()
    shard = (await acme.row(device_id))["shard"]
    await rule(acme)
    [shards] = flushers(edge, redis_client)
    await shards[shard].open(shard)
    await send(edge, device_id, telemetries={"disk": 90})

    def die(reached: str) -> None:
        if reached == "before_commit":
            raise KeyboardInterrupt

    shards[shard]._storing._checkpoint = die
    with pytest.raises(KeyboardInterrupt):
        await shards[shard].flush()
    assert await found(acme, device_id) == []
    await store_all(edge, redis_client)
    assert await found(acme, device_id) == [(90, True)]
