"""Releasing and withdrawing reach all devices of the model, whoever dies meanwhile."""

import asyncio
from typing import Any
from uuid import UUID

from owners import Owner

from schemas import ids, replies
from schemas.redis import Redis
from workers import firmware_sweep
from workers.firmware_sweep import FirmwareSweep


async def firmware(acme: Owner, version: str = "2.0.0", *, side: str = "partner", release: bool = True) -> str:
    """Firmware of the tenant's model, or of the tenant for that model."""
    key = acme.partner_key if side == "partner" else acme.key
    path = f"/core/v1/{side}/files"
    body = {"model_id": str(acme.model_id), "name": "F", "file_type": "firmware", "version": version}
    _, made = await acme.ask("POST", path, body, key)
    async with acme.http.put(f"{acme.url}{path}/{made['id']}/content", data=b"x", headers={"authorization": key}):
        pass
    if release:
        await switch(acme, made["id"], "release", side)
    return str(made["id"])


async def switch(acme: Owner, file_id: str, call: str, side: str = "partner") -> None:
    key = acme.partner_key if side == "partner" else acme.key
    status, answer = await acme.ask("POST", f"/core/v1/{side}/files/{file_id}/{call}", None, key)
    assert status == 200, answer


async def spreading(acme: Owner, file_id: str) -> Any:
    return (await acme.partner("GET", f"/files/{file_id}"))["spreading"]


async def offered(acme: Owner, *device_ids: UUID) -> list[str | None]:
    return [(await acme.row(device_id))["latest_fw_version"] for device_id in device_ids]


async def test_a_release_reaches_the_prepared_replies_of_all_devices_of_the_model(
    acme: Owner, redis_client: Redis
) -> None:
    """In batches, with its progress to be seen; a withdrawal takes it back likewise."""
    device_ids = [await acme.device(claimed=False, firmware_version=f"1.0.{n}") for n in range(5)]
    newer = await acme.device(claimed=False, firmware_version="3.0.0")
    file_id = await firmware(acme)
    sweep = FirmwareSweep(acme.pool, redis_client)
    assert await sweep.step(2)
    assert await spreading(acme, file_id) == {"devices": 6, "done": 2, "finished_at": None}
    await sweep.advance()
    assert (await spreading(acme, file_id))["finished_at"] is not None
    assert await offered(acme, *device_ids, newer) == ["2.0.0"] * 5 + [None]
    for device_id in device_ids:
        reply = await redis_client.hget(f"{{{(await acme.row(device_id))['shard']}}}:reply", str(device_id))
        assert reply is not None
        assert b'"latest_fw_version":"2.0.0"' in reply[replies.RATE_LIMIT_END :]
    assert await acme.pool.fetchval("SELECT count(*) FROM reply_queue") == 0
    await switch(acme, file_id, "withdraw")
    assert (await spreading(acme, file_id)) == {"devices": None, "done": 0, "finished_at": None}
    await sweep.advance()
    assert await offered(acme, *device_ids) == [None] * 5


async def test_a_sweep_goes_on_where_another_worker_died(acme: Owner, redis_client: Redis) -> None:
    """Whatever was committed is done; nobody is left out, and what was not committed is done anew."""
    device_ids = [await acme.device() for _ in range(5)]
    file_id = await firmware(acme)
    dying = FirmwareSweep(acme.pool, redis_client)
    await dying.step(2)
    turn = asyncio.create_task(dying.step(2))
    await asyncio.sleep(0)
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    other = FirmwareSweep(acme.pool, redis_client)
    while await other.step(2):
        pass
    assert await offered(acme, *device_ids) == ["2.0.0"] * 5
    assert (await spreading(acme, file_id))["done"] == 5


async def test_two_workers_share_sweeps_and_not_a_batch(acme: Owner, redis_client: Redis) -> None:
    """Each takes one that nobody works on; what is over is over for both."""
    device_ids = [await acme.device() for _ in range(20)]
    files = [await firmware(acme, "2.0.0"), await firmware(acme, "2.1.0", side="organization")]
    workers = [FirmwareSweep(acme.pool, redis_client) for _ in range(3)]

    async def work(one: FirmwareSweep) -> None:
        while await one.step(3):
            pass

    await asyncio.gather(*(work(one) for one in workers))
    await work(workers[0])
    assert await offered(acme, *device_ids) == ["2.1.0"] * 20
    done = await acme.pool.fetch("SELECT done, finished_at FROM firmware_sweeps")
    assert [row["done"] for row in done if row["finished_at"]] == [20] * len(files)


async def test_an_organizations_firmware_sweeps_its_own_devices_only(acme: Owner, redis_client: Redis) -> None:
    """Of a model that others have millions of."""
    own, _ = await acme.device(), await acme.device(claimed=False)
    file_id = await firmware(acme, side="organization")
    while await FirmwareSweep(acme.pool, redis_client).step():
        pass
    assert await offered(acme, own) == ["2.0.0"]
    found = await acme.pool.fetchval("SELECT done FROM firmware_sweeps WHERE file_id = $1", UUID(file_id))
    assert found == 1


async def test_replies_that_others_wait_for_come_first(acme: Owner, redis_client: Redis, monkeypatch: Any) -> None:
    """While many replies are queued a sweep does nothing; then it goes on."""
    device_ids = [await acme.device() for _ in range(4)]
    await firmware(acme)
    monkeypatch.setattr(firmware_sweep, "QUEUED_MAX", 4)
    sweep = FirmwareSweep(acme.pool, redis_client)
    assert await acme.pool.fetchval("SELECT count(*) FROM reply_queue") == 4
    assert not await sweep.step()
    assert await offered(acme, *device_ids) == [None] * 4
    await acme.pool.execute("DELETE FROM reply_queue")
    assert await sweep.step()
    assert await offered(acme, *device_ids) == ["2.0.0"] * 4


async def test_who_registers_while_firmware_is_released_is_offered_it(acme: Owner, redis_client: Redis) -> None:
    """A registration under way when the release is made is waited for: the sweep sees its device."""
    file_id = await firmware(acme, release=False)
    async with acme.pool.acquire() as connection:
        registering = connection.transaction()
        await registering.start()
        device_id = ids.new_id()
        await connection.execute(
            "INSERT INTO devices (id, shard, model_id, firmware_version) VALUES ($1, 0, $2, '1.0.0')",
            device_id,
            acme.model_id,
        )
        releasing = asyncio.create_task(switch(acme, file_id, "release"))
        async with asyncio.timeout(5):
            while not await acme.pool.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype IN ('tuple', 'transactionid'))"
            ):
                await asyncio.sleep(0.002)
        assert not await FirmwareSweep(acme.pool, redis_client).step()
        await registering.commit()
    await releasing
    while await FirmwareSweep(acme.pool, redis_client).step():
        pass
    assert await offered(acme, device_id) == ["2.0.0"]
