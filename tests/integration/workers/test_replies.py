"""Prepared replies: whoever writes last, the newest stands."""

from typing import Any

from owners import Owner

from schemas import keys, replies
from schemas.redis import Redis


async def test_an_older_reply_never_takes_the_place_of_a_newer_one(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """A writer that read before another change, and writes after it, leaves the device's reply alone."""
    device_id = await acme.device()
    field = keys.reply((await acme.row(device_id))["shard"]), str(device_id)
    read = f"{replies._COLUMNS} WHERE d.id = $1"
    versions = []
    for interval_s in (1, 2):
        await acme.call("PUT", f"/devices/{device_id}/config", {"config": {"interval_s": interval_s}})
        versions.append(await acme.pool.fetch(read, device_id))
    [older], [newer] = versions
    assert await redis_client.hget(*field) == replies.render(newer)
    await replies._put(redis_client, [older])
    assert await redis_client.hget(*field) == replies.render(newer)
    await redis_client.hdel(*field)
    for rows in ([older], [newer], [older]):
        await replies._put(redis_client, rows)
    assert await redis_client.hget(*field) == replies.render(newer)
