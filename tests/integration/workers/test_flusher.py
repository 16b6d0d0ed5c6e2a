"""From the stream into Postgres: once, in order, whatever happens in between."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from flushing import drain, flushers, send
from owners import Owner
from waiting import waits_for_a_lock
from webhooks import until

from schemas import entries, keys
from schemas.redis import Redis
from workers.shares import LostSlotError


async def values(edge: Any) -> list[int]:
    rows = await edge.services.postgres.fetch("SELECT data FROM events WHERE type = 'telemetry' ORDER BY shard, seq")
    return [row["data"]["telemetry"]["telemetries"]["n"] for row in rows]


async def test_every_accepted_message_is_stored_once_and_the_stream_is_trimmed(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """History holds each message in order, state their merge, the ledger their number; the stream is empty."""
    device_id = await acme.device()
    for n in range(5):
        await send(edge, device_id, status="online", telemetries={"n": n, "last": n == 4})
    [shards] = flushers(edge, redis_client)
    assert await drain(shards) == 5
    assert await values(edge) == [0, 1, 2, 3, 4]
    state = await edge.services.postgres.fetchrow("SELECT * FROM device_state WHERE device_id = $1", device_id)
    assert (state["status"], state["telemetries"], state["times"]) == ("online", {"n": 4, "last": True}, {})
    ledger = await edge.services.postgres.fetch("SELECT outcome, sum(count)::int AS n FROM ingest_ledger GROUP BY 1")
    assert [tuple(row) for row in ledger] == [("stored", 5)]
    assert [await redis_client.xlen(keys.ingest(shard)) for shard in range(4)] == [0, 0, 0, 0]
    # Nothing is left to do, so nothing is done again.
    assert await drain(shards) == 0
    assert len(await values(edge)) == 5


async def test_numbers_of_64_bits_and_other_ways_to_write_a_time_are_stored_as_they_were_sent(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """In history and state: counters of bytes, large floats; the time of a message that Java printed."""
    device_id = await acme.device()
    told = {"n": 2**63 - 1, "least": -(2**63), "large": 1.7976931348623157e308, "bytes": 25276502016.0}
    await send(edge, device_id, telemetries=told, timestamp="2026-11-26T03:10Z")
    [shards] = flushers(edge, redis_client)
    await drain(shards)
    event = await edge.services.postgres.fetchrow("SELECT ts, data FROM events WHERE type = 'telemetry'")
    assert event["ts"] == datetime(2026, 11, 26, 3, 10, tzinfo=UTC)
    assert event["data"]["telemetry"]["telemetries"] == told
    state = await edge.services.postgres.fetchval(
        "SELECT telemetries FROM device_state WHERE device_id = $1", device_id
    )
    assert (state, type(state["bytes"])) == (told, float)


async def test_a_zombie_stores_nothing(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """Two flushers read the same entries: the one whose offset was moved gives up, and no row is doubled."""
    device_id = await acme.device()
    owner, zombie = flushers(edge, redis_client, 2)
    shard = (await acme.row(device_id))["shard"]
    await owner[shard].open(shard)
    await zombie[shard].open(shard)
    await send(edge, device_id, telemetries={"n": 1})
    assert await owner[shard].flush() == 1
    await send(edge, device_id, telemetries={"n": 2})
    with pytest.raises(LostSlotError):
        await zombie[shard].flush()
    assert await values(edge) == [1]
    assert await owner[shard].flush() == 1
    assert await values(edge) == [1, 2]


async def test_after_redis_was_emptied_the_shard_is_rebuilt_above_its_offset(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """Replies come back before the stream does, and new entries have ids that the offset does not cover."""
    device_id = await acme.device()
    await send(edge, device_id, telemetries={"n": 1})
    [shards] = flushers(edge, redis_client)
    await drain(shards)
    shard = (await acme.row(device_id))["shard"]
    offset = await edge.services.postgres.fetchval("SELECT stream_offset FROM shards WHERE shard = $1", shard)
    await redis_client.flushall()
    await drain(shards)
    info = await redis_client.xinfo_stream(keys.ingest(shard))
    assert info["last-generated-id"].decode() == offset
    await send(edge, device_id, telemetries={"n": 2})
    await drain(shards)
    assert await values(edge) == [1, 2]


async def test_messages_of_deleted_devices_and_old_keys_are_counted_and_not_stored(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """Each ends in its own counted outcome."""
    kept, deleted = await acme.device(), await acme.device()
    await send(edge, kept, telemetries={"n": 1})
    await send(edge, deleted, telemetries={"n": 2})
    await edge.services.postgres.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", deleted)
    await edge.services.postgres.execute("UPDATE devices SET key_version = 1 WHERE id = $1", kept)
    [shards] = flushers(edge, redis_client)
    await drain(shards)
    ledger = await edge.services.postgres.fetch("SELECT outcome, sum(count)::int AS n FROM ingest_ledger GROUP BY 1")
    assert {tuple(row) for row in ledger} == {("rejected_deleted", 1), ("rejected_old_key", 1)}
    assert await values(edge) == []


async def test_what_cannot_be_decoded_is_kept_in_quarantine(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """A poisoned entry and a poisoned message do not stop the good one beside them."""
    device_id = await acme.device()
    shard = (await acme.row(device_id))["shard"]
    name = str(device_id).encode()
    good, bad = b'{"telemetries":{"n":7}}', b'{"telemetries":{"n":{}}}'
    await redis_client.xadd(keys.ingest(shard), {"b": b"\xc1"})
    await redis_client.xadd(
        keys.ingest(shard), {"b": entries.pack(1_800_000_000_000_000, [name, b"00", bad, name, b"00", good])}
    )
    [shards] = flushers(edge, redis_client)
    await drain(shards)
    assert await values(edge) == [7]
    rows = await edge.services.postgres.fetch("SELECT position, message FROM ingest_quarantine ORDER BY id")
    assert [tuple(row) for row in rows] == [(-1, b"\xc1"), (0, bad)]


async def test_a_redis_restored_from_an_older_copy_goes_on_above_the_offset(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """Complete and there, but behind: what is accepted from then on has ids that the offset does not cover."""
    device_id = await acme.device()
    shard = (await acme.row(device_id))["shard"]
    [shards] = flushers(edge, redis_client)
    await send(edge, device_id, telemetries={"n": 1})
    await drain(shards)
    ahead = "99999999999999-5"
    await edge.services.postgres.execute("UPDATE shards SET stream_offset = $2 WHERE shard = $1", shard, ahead)
    [again] = flushers(edge, redis_client)
    await again[shard].open(shard)
    info = await redis_client.xinfo_stream(keys.ingest(shard))
    assert info["last-generated-id"].decode() == ahead
    await send(edge, device_id, telemetries={"n": 2})
    assert await again[shard].flush() == 1
    assert await values(edge) == [1, 2]


async def test_a_flusher_waits_for_whoever_holds_its_shard_and_reads_the_offset_then(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """While another is about to commit the same messages: then they are stored, and this one gives up."""
    device_id = await acme.device()
    shard = (await acme.row(device_id))["shard"]
    [shards] = flushers(edge, redis_client)
    flusher = shards[shard]
    await flusher.open(shard)
    await send(edge, device_id, telemetries={"n": 1})
    async with edge.services.postgres.acquire() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE shards SET stream_offset = '99999999999999-5' WHERE shard = $1", shard)
        flushing = asyncio.create_task(flusher.flush())
        await until(lambda: flushing.done() or waits_for_a_lock(acme.pool), 10)
        await transaction.commit()
    with pytest.raises(LostSlotError):
        await flushing
    assert await values(edge) == []


async def test_when_a_device_was_last_seen_never_goes_back(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """An edge whose clock is behind, or an entry that comes late, does not make it silent."""
    device_id = await acme.device()
    shard = (await acme.row(device_id))["shard"]
    [shards] = flushers(edge, redis_client)
    name, late, early = str(device_id).encode(), 1_800_000_600_000_000, 1_800_000_000_000_000
    for at in (late, early):
        packed = entries.pack(at, [name, b"00", b'{"status":"online"}'])
        await redis_client.xadd(keys.ingest(shard), {entries.FIELD: packed})
        assert await drain(shards) == 1
    seen = await acme.pool.fetchval("SELECT last_seen_at FROM device_state WHERE device_id = $1", device_id)
    assert seen == datetime.fromtimestamp(late / 1e6, UTC)


async def test_a_message_that_postgres_refuses_is_set_aside_and_the_others_of_its_batch_are_stored(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """With the reason, in quarantine; the shard goes on."""
    device_id = await acme.device()
    await acme.pool.execute(
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NEW.telemetries::jsonb ? 'poison' THEN
                   RAISE EXCEPTION 'refused by a test' USING ERRCODE = 'data_exception';
               END IF;
               RETURN NEW;
           END $$"""
    )
    await acme.pool.execute(
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON device_state FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    for telemetries in ({"n": 1}, {"n": 2, "poison": 1}, {"n": 3}):
        await send(edge, device_id, telemetries=telemetries)
    [shards] = flushers(edge, redis_client)
    assert await drain(shards) == 3
    assert await values(edge) == [1, 3]
    rows = await acme.pool.fetch("SELECT reason, message FROM ingest_quarantine")
    assert [(row["reason"], b"poison" in row["message"]) for row in rows] == [("refused by a test", True)]
