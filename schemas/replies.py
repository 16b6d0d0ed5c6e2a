"""The prepared reply of each device: what its next telemetry answer says, ready-made in Redis.

Redis hash ``{shard}:reply``, field = device id, value = header and body:

    bytes 0–13   revision, hex      orders concurrent writers; an older one never overwrites a newer one; its first
                                    four digits are the generation of Postgres (see workers.postgres_history)
    bytes 14–15  key version, hex   of the key that is good beside the device's own; without one, again that one's
    bytes 16–17  key version, hex   of the device's key; an access key of neither version is answered 401
    bytes 18–25  rate limit, hex    calls the device may make in a window
    byte  26     ".", "f" or "x"    "x": the device was deleted, answer 401; "f": its state is full
    bytes 27–    the response map   JSON, sent to the device as it stands

A missing field means that nothing waits for the device (`NOTHING_WAITS`). That is true only while the hash is
complete, which its field ``!`` says; the owner of the shard sets it after rebuilding the hash from Postgres. Its value
is the generation that the hash was rebuilt in, plus one.

Deleted devices are many where keys were stolen, so their replies go again after `DELETED_KEPT`. A message of one that
calls later is taken once and dropped where it would be stored; then its reply is back, for `CALLING_KEPT`.

Postgres is the truth. Triggers note every change that matters in ``reply_queue``; whoever made the change calls
`publish` after its commit so that the device learns at once, and a worker repeats it for those who died in between.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from schemas import keys, logs
from schemas.bounds import RATE_LIMIT
from schemas.postgres import Connection, Executor, PostgresAway, batches
from schemas.redis import Redis, RedisAway

log = logging.getLogger(__name__)

DELETED_KEPT, CALLING_KEPT = "1 hour", "7 days"
"""How long the reply of a deleted device stays: after its deletion, and after it called nevertheless."""
COMPLETE = b"!"
DEFAULT_RATE_LIMIT = RATE_LIMIT.default
DEFAULT_RATE_LIMIT_HEX = b"%08x" % DEFAULT_RATE_LIMIT
DELETED = b"x"[0]
FULL = b"f"[0]
KEY_VERSION_END, RATE_LIMIT_END = 18, 26


class ResponseMap(msgspec.Struct):
    """What waits for a device. All versions only ever grow, but that of the firmware: it follows what is released."""

    success: bool = True
    config_version: int = 0
    command: bool = False
    new_licenses: bool = False
    info_version: int = 0
    space_data_version: int = 0
    latest_fw_version: str | None = None
    latest_fw_file_id: UUID | None = None


NOTHING_WAITS = msgspec.json.encode(ResponseMap())
SUCCESS_PREFIX = b'{"success":true,'

# What another change holds is left for it: waiting would lock devices out of turn.
_WRITTEN = """(SELECT q.device_id FROM reply_queue q
                 JOIN unnest($1::uuid[], $2::bigint[]) AS written (device_id, revision) USING (device_id)
                WHERE q.revision <= written.revision FOR UPDATE OF q SKIP LOCKED)"""
_DONE = f"DELETE FROM reply_queue WHERE device_id IN {_WRITTEN}"
_DONE_UNTIL_FORGOTTEN = f"""
    UPDATE reply_queue q SET forget = true,
           queued_at = now() + CASE WHEN d.deleted_at < now() - interval '{DELETED_KEPT}' THEN interval '{CALLING_KEPT}'
                                    ELSE interval '{DELETED_KEPT}' END
      FROM devices d WHERE d.id = q.device_id AND q.device_id IN {_WRITTEN}"""

_COLUMNS = """
    SELECT d.id, d.shard, d.reply_revision, d.key_version, d.deleted_at IS NOT NULL AS deleted, d.config_version,
           d.open_commands > 0 AS command, d.pending_licenses > 0 AS new_licenses, d.info_version,
           d.space_data_version, m.rate_limit, d.state_full_at IS NOT NULL AS is_full,
           (SELECT generation FROM installation) AS generation, d.latest_fw_version, d.latest_fw_file_id,
           CASE WHEN d.previous_key_good THEN d.previous_key_version ELSE d.key_version END AS other_version
      FROM devices d JOIN device_models m ON m.id = d.model_id
"""

_WRITE_IF_NEWER = """
for i = 1, #ARGV, 2 do
    local known = redis.call('HGET', KEYS[1], ARGV[i])
    if not known or string.sub(known, 1, 16) < string.sub(ARGV[i + 1], 1, 16) then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
end
"""

_FORGET_OUTDATED = """
for i = 2, #ARGV do
    local known = redis.call('HGET', KEYS[1], ARGV[i])
    if known and string.sub(known, 1, 4) < ARGV[1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
"""


def render(row: Any) -> bytes:
    """The value of one device's field, from a row of `_COLUMNS`."""
    body = b""
    if not row["deleted"]:
        body = msgspec.json.encode(_map(row))
    mark = b"x" if row["deleted"] else b"f" if row["is_full"] else b"."
    revision = row["generation"], row["reply_revision"]
    versions = row["other_version"], row["key_version"]
    return b"%04x%010x%02x%02x%08x%s%s" % (*revision, *versions, row["rate_limit"], mark, body)


def _map(row: Any) -> ResponseMap:
    return ResponseMap(
        config_version=row["config_version"],
        command=row["command"],
        new_licenses=row["new_licenses"],
        info_version=row["info_version"],
        space_data_version=row["space_data_version"],
        latest_fw_version=row["latest_fw_version"],
        latest_fw_file_id=row["latest_fw_file_id"],
    )


async def read(connection: Executor, device_id: UUID) -> ResponseMap | None:
    """What a device is told; None where there is no such device."""
    row = await connection.fetchrow(_COLUMNS + " WHERE d.id = $1 AND d.deleted_at IS NULL", device_id)
    return None if row is None else _map(row)


async def write(connection: Connection, redis: Redis, device_ids: Collection[UUID]) -> None:
    """Bring the replies of these devices up to date. To be called after the commit of what changed them.

    What another change is about to queue anew stays in the queue: waiting for it would lock devices out of turn.
    """
    rows = await connection.fetch(_COLUMNS + " WHERE d.id = ANY($1::uuid[])", device_ids)
    await _put(redis, rows)
    living = [row for row in rows if not row["deleted"]]
    deleted = [row for row in rows if row["deleted"]]
    for written, done in ((living, _DONE), (deleted, _DONE_UNTIL_FORGOTTEN)):
        if written:
            await connection.execute(done, [row["id"] for row in written], [row["reply_revision"] for row in written])


async def turn_away(connection: Connection, device_ids: Collection[str]) -> None:
    """Let deleted devices that call nevertheless have a reply again, which turns their keys away."""
    await connection.execute(
        """INSERT INTO reply_queue AS q (device_id, revision)
           SELECT id, reply_revision FROM devices WHERE id = ANY($1::uuid[]) AND deleted_at IS NOT NULL ORDER BY id
           ON CONFLICT (device_id) DO UPDATE SET forget = false, queued_at = now() WHERE q.forget""",
        list(device_ids),
    )


async def turn_unknown_away(redis: Redis, device_ids: Mapping[int, Collection[str]]) -> None:
    """Let devices that Postgres does not know (it went back, say) hear 401, upon which they register; by shard."""
    value = b"%0*x%sx" % (KEY_VERSION_END, 0, DEFAULT_RATE_LIMIT_HEX)
    for shard, unknown in device_ids.items():
        pairs = [word for device_id in unknown for word in (device_id, value)]
        await redis.eval(_WRITE_IF_NEWER, 1, keys.reply(shard), *pairs)


async def publish(connection: Connection, redis: Redis, device_ids: Collection[UUID]) -> None:
    """As `write`, for whoever made the change: it stands, so what is away now is left to the worker."""
    try:
        await write(connection, redis, device_ids)
    except (RedisAway, PostgresAway) as error:
        logs.event(log, logging.WARNING, "reply_deferred", devices=len(device_ids), cause=str(error))


async def forget(connection: Connection, redis: Redis, device_ids: Collection[UUID]) -> None:
    """Take the replies of deleted devices out of Redis, those of which the queue still says so."""
    async with connection.transaction():
        rows = await connection.fetch(
            """DELETE FROM reply_queue q USING devices d
                WHERE q.device_id IN (SELECT device_id FROM reply_queue
                                       WHERE device_id = ANY($1::uuid[]) AND forget FOR UPDATE SKIP LOCKED)
                  AND d.id = q.device_id RETURNING d.id, d.shard""",
            device_ids,
        )
        by_shard: dict[int, list[str]] = defaultdict(list)
        for row in rows:
            by_shard[row["shard"]].append(str(row["id"]))
        for shard, fields in by_shard.items():
            await redis.hdel(keys.reply(shard), *fields)


async def _put(redis: Redis, rows: Sequence[Any]) -> None:
    by_shard: dict[int, list[bytes]] = defaultdict(list)
    for row in rows:
        by_shard[row["shard"]] += [str(row["id"]).encode(), render(row)]
    for shard, pairs in by_shard.items():
        await redis.eval(_WRITE_IF_NEWER, 1, keys.reply(shard), *pairs)


async def rebuild(connection: Connection, redis: Redis, shard: int, page: int = 1_000) -> int:
    """Write the replies of a whole shard from Postgres, then mark the hash complete; returns how many were written."""
    written = 0
    generation = await connection.fetchval("SELECT generation FROM installation")
    async with connection.transaction():
        reading = batches(
            connection,
            _COLUMNS
            + """WHERE d.shard = $1 AND (d.reply_revision > 0 OR d.space_data_version > 0 OR m.rate_limit <> $2
                                        OR d.latest_fw_file_id IS NOT NULL)
                 AND (d.deleted_at IS NULL OR d.deleted_at > now() - $3::text::interval)""",
            shard,
            DEFAULT_RATE_LIMIT,
            DELETED_KEPT,
            size=page,
        )
        async for rows in reading:
            await _put(redis, rows)
            written += len(rows)
    await _forget_outdated(redis, shard, generation)
    await redis.hset(keys.reply(shard), COMPLETE.decode(), str(generation + 1))
    return written


async def is_complete(redis: Redis, shard: int, generation: int) -> bool:
    """Whether the replies of a shard are those of this generation of Postgres, or of a later one."""
    mark = await redis.hget(keys.reply(shard), COMPLETE.decode())
    return mark is not None and int(mark) > generation


async def _forget_outdated(redis: Redis, shard: int, generation: int) -> None:
    """Drop the replies of earlier generations: their devices are unknown now, or have nothing that waits."""
    oldest = b"%04x" % generation
    outdated: list[bytes] = []
    async for device_id, value in redis.hscan_iter(keys.reply(shard), count=1_000):
        if device_id != COMPLETE and value[: len(oldest)] < oldest:
            outdated.append(device_id)
    for n in range(0, len(outdated), 1_000):
        await redis.eval(_FORGET_OUTDATED, 1, keys.reply(shard), oldest, *outdated[n : n + 1_000])
