"""Values over time as charts draw them: few points whatever the range, and nothing lost between them."""

from datetime import datetime, timedelta
from typing import Any

from owners import NOW, Owner

BEGAN = NOW - timedelta(hours=1)


async def series(owner: Owner, device_id: Any, **query: Any) -> Any:
    """The series of a device in the hour."""
    told = {"since": BEGAN.isoformat(), "until": NOW.isoformat(), "keys": "t"} | query
    return await owner.call("GET", f"/devices/{device_id}/series", **told)


async def message(owner: Owner, device_id: Any, at: datetime, **values: Any) -> None:
    await owner.message(device_id, at, telemetries=values)


async def test_buckets_hold_least_mean_and_greatest_and_gaps_are_gaps(acme: Owner) -> None:
    """A bucket with one message stands at its time; texts are no numbers, and truth is one."""
    device_id = await acme.device()
    for minute, value in ((0, 1), (1, 4), (2, 4.5), (50, 7), (51, "broken"), (52, None)):
        await message(acme, device_id, BEGAN + timedelta(minutes=minute), **({} if value is None else {"t": value}))
    await message(acme, device_id, BEGAN + timedelta(minutes=55), door=True)
    (found,) = await series(acme, device_id, points=6)
    assert (found["least"], found["greatest"]) == ([1, 7], [4.5, 7])
    assert round(found["mean"][0], 3) == 3.167
    assert found["at"][1] == int((BEGAN + timedelta(minutes=50)).timestamp() * 1000)
    (raw,) = await series(acme, device_id)
    assert raw["mean"] == [1, 4, 4.5, 7]
    (door,) = await series(acme, device_id, keys="door")
    assert door["mean"] == [1]


async def test_a_month_of_messages_is_a_thousand_points_at_most(acme: Owner) -> None:
    """And no more can be asked for; nor a longer time."""
    device_id = await acme.device()
    await acme.pool.execute(
        """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
           SELECT shard, n, now(), 'telemetry', id, project_id, $2::timestamptz + n * interval '1 second',
                  json_build_object('telemetry', json_build_object('telemetries', json_build_object('t', n)))
             FROM devices, generate_series(1, 3000) n WHERE id = $1""",
        device_id,
        BEGAN,
    )
    (found,) = await series(acme, device_id)
    assert len(found["at"]) <= 1_000
    assert (found["least"][0], found["greatest"][-1]) == (1, 3000)
    assert (await series(acme, device_id, points=1001))[0] == 422
    assert (await series(acme, device_id, since=(NOW - timedelta(32)).isoformat()))[0] == 422


async def test_another_tenants_values_are_not_there(acme: Owner, globex: Owner) -> None:
    """Nor those that a device sent before it was its owner's."""
    device_id = await acme.device()
    await message(acme, device_id, BEGAN, t=1)
    assert (await series(globex, device_id))[0] == 404
    await acme.pool.execute("UPDATE events SET project_id = NULL WHERE device_id = $1", device_id)
    (found,) = await series(acme, device_id)
    assert found["at"] == []
