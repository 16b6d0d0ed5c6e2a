"""Moves what edges accepted from a shard's stream into Postgres, exactly once.

    XREAD from the stored offset ─▶ one transaction: offset compare-and-set, events, device state, ledger ─▶ XTRIM

The offset moves in the transaction that stores the rows it covers. A flusher that was overtaken (a zombie) finds the
offset moved, rolls back and gives its shard up; one that dies anywhere is followed by another that reads from the
offset, so nothing is stored twice and nothing is left out. The stream is trimmed only after the commit, and only up
to the offset.

A shard whose stream or replies are missing (Redis was emptied or replaced) is rebuilt from Postgres first; until then
its edges answer 503. Messages that Postgres refuses, or that do not decode, go to `ingest_quarantine` whole.

Every event is stored with the labels that its device has at that moment. Where a model maps telemetry to typed events
(schemas.mappings) those follow the message they were made from; the newest of each type is remembered for its device.
"""

import asyncio
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from schemas import entries, keys, logs, replies, telemetry
from schemas.events import EventType, rfc3339
from schemas.mappings import EventMapping
from schemas.metrics import Metrics
from schemas.outcomes import Stored
from schemas.postgres import PARTITIONS_AHEAD_DAYS, Connection, Pool
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from schemas.telemetry import Telemetry, TelemetryError
from workers.offline import announce
from workers.rows import Mappings, Rows, labels_of
from workers.shares import LostPieceError
from workers.state import State

log = logging.getLogger(__name__)

BLOCK_MS = 200
"""How long a read waits for entries; also how soon an event of the outbox reaches the log when all is quiet."""
ENTRIES_MAX = 500
OUTBOX_MAX = 5_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_STATES_TABLE = """
    CREATE TEMP TABLE IF NOT EXISTS flushed_states (
        device_id uuid, status text, telemetries json, times json, state_at timestamptz, floor_at timestamptz,
        last_seen_at timestamptz) ON COMMIT DELETE ROWS
"""

Checkpoint = Callable[[str], None]
"""Called with `before_copy`, `before_commit` and `before_trim`: where crash tests let the process die."""


class Message:
    """One message of a batch."""

    __slots__ = (
        "at",
        "body",
        "device_id",
        "entry_id",
        "key_version",
        "place",
        "received_at",
        "telemetry",
        "update_time",
    )

    def __init__(
        self,
        entry_id: str,
        place: int,
        received_at: datetime,
        update_time: str,
        device_id: str,
        version: int,
        body: bytes,
    ) -> None:
        self.entry_id = entry_id
        self.place = place
        self.received_at = received_at
        self.device_id = device_id
        self.key_version = version
        self.body = body
        self.telemetry: Telemetry | None = None
        self.at = received_at
        self.update_time = update_time


def moment(us: int) -> datetime:
    """The time that is `us` microseconds after 1970."""
    return EPOCH + timedelta(microseconds=us)


def die_at(name: str) -> Checkpoint:
    """A checkpoint that kills this process, as kill -9 would, when it comes to `name`; with `name:n` the nth time."""
    name, _, times = name.partition(":")
    left = int(times or 1)

    def check(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    return check


class Flusher:
    """Flushes one shard."""

    def __init__(
        self,
        shard: int,
        pool: Pool,
        redis: Redis,
        metrics: Metrics,
        settings: WorkerSettings,
        checkpoint: Checkpoint = lambda _: None,
    ) -> None:
        self.shard = shard
        self._pool = pool
        self._redis = redis
        self._metrics = metrics
        self._settings = settings
        self._checkpoint = checkpoint
        self._stream = keys.ingest(shard)
        self._offset = ""
        self._messages_an_entry = 100.0
        self._mappings = Mappings()

    def __repr__(self) -> str:
        return f"<Flusher shard={self.shard} offset={self._offset}>"

    async def run(self, stop: asyncio.Event) -> None:
        """Flush until `stop` is set. Raises LostPieceError, or what went wrong with Redis or Postgres."""
        await self.open()
        while not stop.is_set():
            began = time.monotonic()
            await self.flush(block_ms=BLOCK_MS)
            pause = self._settings.flush_interval_s - (time.monotonic() - began)
            if pause > 0:
                await asyncio.sleep(pause)

    async def open(self) -> None:
        """Read the offset, and rebuild the shard in Redis where it is missing or older than the offset."""
        async with self._pool.acquire() as connection:
            self._offset = await connection.fetchval("SELECT stream_offset FROM shards WHERE shard = $1", self.shard)
            if not await self._is_ready():
                written = await replies.rebuild(connection, self._redis, self.shard)
                await self._repair_stream()
                self._metrics.replies_rebuilt.inc(written)
                logs.event(log, logging.WARNING, "shard_rebuilt", shard=self.shard, replies=written)

    async def flush(self, *, block_ms: int | None = None) -> int:
        """Store the next batch; returns how many messages it had. Without `block_ms` it does not wait for any."""
        count = max(1, min(ENTRIES_MAX, int(self._settings.flush_messages_max / self._messages_an_entry)))
        found: Any = await self._redis.xread({self._stream: self._offset}, count=count, block=block_ms)
        read: list[Any] = []
        if found:
            read = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
        if not read and not await self._redis.exists(self._stream):
            await self.open()
            return 0
        messages, quarantined = self._unpack(read)
        if read:
            # Entries grow with load: the next batch is cut by what this one's held.
            self._messages_an_entry = max(1.0, len(messages) / len(read))
        if not messages and not quarantined and not read and not await self._has_outbox():
            return 0
        offset = read[-1][0].decode() if read else self._offset
        began = time.perf_counter()
        try:
            outcomes = await self._store(messages, quarantined, offset)
        except asyncpg.DataError as error:
            logs.event(log, logging.ERROR, "batch_refused", shard=self.shard, cause=str(error))
            outcomes = await self._store(*await self._isolate(messages, quarantined), offset)
        self._offset = offset
        self._metrics.flush_seconds.observe(time.perf_counter() - began)
        self._metrics.flush_batch_messages.observe(len(messages))
        for outcome, count in outcomes.items():
            self._metrics.flushed.labels(outcome).inc(count)
        if read:
            self._checkpoint("before_trim")
            milliseconds, _, number = offset.partition("-")
            await self._redis.xtrim(self._stream, minid=f"{milliseconds}-{int(number) + 1}", approximate=False)
        return len(messages)

    # Reading

    async def _is_ready(self) -> bool:
        if not await self._redis.hexists(keys.reply(self.shard), replies.COMPLETE.decode()):
            return False
        if not await self._redis.exists(self._stream):
            return False
        info = await self._redis.xinfo_stream(self._stream)
        return _place(info["last-generated-id"]) >= _place(self._offset)

    async def _repair_stream(self) -> None:
        """Let the stream exist, with ids that go on above the offset; unflushed entries stay."""
        if not await self._redis.exists(self._stream):
            await self._redis.xgroup_create(self._stream, "opened", mkstream=True)
            await self._redis.xgroup_destroy(self._stream, "opened")
        info = await self._redis.xinfo_stream(self._stream)
        if _place(info["last-generated-id"]) < _place(self._offset):
            await self._redis.execute_command("XSETID", self._stream, self._offset)

    def _unpack(self, read: list[Any]) -> tuple[list[Message], list[tuple[str, int, str, bytes]]]:
        messages: list[Message] = []
        quarantined: list[tuple[str, int, str, bytes]] = []
        for raw_id, fields in read:
            entry_id, data = raw_id.decode(), fields.get(entries.FIELD, b"")
            try:
                entry = entries.unpack(data)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                quarantined.append((entry_id, -1, str(error), data))
                continue
            items, received_at = entry.items, moment(entry.received_at_us)
            update_time = rfc3339(received_at)
            for place in range(0, len(items), 3):
                device_id, version, body = items[place : place + 3]
                message = Message(
                    entry_id, place // 3, received_at, update_time, device_id.decode(), int(version, 16), body
                )
                if body:
                    try:
                        message.telemetry = telemetry.decode(body, received_at)
                    except TelemetryError as error:
                        quarantined.append((entry_id, message.place, str(error), body))
                        continue
                    if message.telemetry.timestamp is not None:
                        message.at, message.telemetry.timestamp = message.telemetry.timestamp, None
                        message.update_time = rfc3339(message.at)
                messages.append(message)
        return messages, quarantined

    # Storing

    async def _has_outbox(self) -> bool:
        found = await self._pool.fetchval("SELECT EXISTS (SELECT FROM event_outbox WHERE shard = $1)", self.shard)
        return bool(found)

    async def _store(
        self, messages: list[Message], quarantined: list[tuple[str, int, str, bytes]], offset: str
    ) -> Counter[str]:
        try:
            return await self._transact(messages, quarantined, offset)
        except asyncpg.CheckViolationError:
            # A new day has begun and nobody made its partition yet.
            await self._pool.execute("SELECT create_event_partitions($1)", PARTITIONS_AHEAD_DAYS)
            return await self._transact(messages, quarantined, offset)

    async def _transact(
        self, messages: list[Message], quarantined: list[tuple[str, int, str, bytes]], offset: str
    ) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        async with self._pool.acquire() as connection, connection.transaction():
            seq = await connection.fetchval(
                "SELECT next_seq FROM shards WHERE shard = $1 AND stream_offset = $2 FOR UPDATE",
                self.shard,
                self._offset,
            )
            if seq is None:
                raise LostPieceError(f"shard {self.shard} was flushed past {self._offset} by another worker")
            stored_at = datetime.now(UTC)
            made = await self._merge(connection, messages, outcomes)
            await made.take_outbox(connection, self.shard, OUTBOX_MAX)
            rows = made.rows
            self._checkpoint("before_copy")
            if rows:
                await connection.copy_records_to_table(
                    "events",
                    columns=("shard", "seq", "stored_at", "type", "device_id", "project_id", "ts", "data", "labels"),
                    records=[(self.shard, seq + n, stored_at, *row) for n, row in enumerate(rows)],
                )
                await made.write_reported(connection, self.shard, seq, stored_at)
            if quarantined:
                outcomes[Stored.QUARANTINED] += len(quarantined)
                await connection.executemany(
                    "INSERT INTO ingest_quarantine (shard, entry_id, position, reason, message)"
                    " VALUES ($1, $2, $3, $4, $5)",
                    [(self.shard, *item) for item in quarantined],
                )
            if outcomes:
                await connection.execute(
                    """INSERT INTO ingest_ledger (shard, outcome, count)
                       SELECT $1, o.outcome, o.count FROM unnest($2::text[], $3::bigint[]) AS o (outcome, count)
                       ON CONFLICT (shard, outcome) DO UPDATE SET count = ingest_ledger.count + excluded.count""",
                    self.shard,
                    list(outcomes),
                    list(outcomes.values()),
                )
            await connection.execute(
                "UPDATE shards SET stream_offset = $2, next_seq = $3 WHERE shard = $1",
                self.shard,
                offset,
                seq + len(rows),
            )
            self._checkpoint("before_commit")
        if made.unfit:
            self._metrics.mapped_values_unfit.inc(made.unfit)
        return outcomes

    async def _merge(self, connection: Connection, messages: list[Message], outcomes: Counter[str]) -> Rows:
        """Bring the state of the batch's devices up to date; returns the events of the messages in order."""
        known = {
            str(row["id"]): row
            for row in await connection.fetch(
                """SELECT d.id, d.project_id, d.model_id, d.key_version, d.deleted_at IS NOT NULL AS deleted,
                          d.name, d.description, d.labels, s.status,
                          s.telemetries, s.times, s.state_at, s.floor_at, s.last_seen_at, s.offline
                     FROM devices d LEFT JOIN device_state s ON s.device_id = d.id
                    WHERE d.id = ANY($1::uuid[])""",
                list({message.device_id for message in messages}),
            )
        }
        models = {row["model_id"] for row in known.values() if row["project_id"] is not None}
        mappings = await self._mappings.of(connection, models) if models else {}
        states: dict[str, State] = {}
        labels: dict[str, msgspec.Raw | None] = {}
        mapped: dict[str, EventMapping] = {}
        last_seen: dict[str, datetime] = {}
        made = Rows()
        for message in messages:
            device_id, row = message.device_id, known.get(message.device_id)
            if row is None or row["deleted"] or row["key_version"] != message.key_version:
                if message.telemetry is not None:
                    outcomes[Stored.DELETED if row is None or row["deleted"] else Stored.OLD_KEY] += 1
                continue
            state = states.get(device_id)
            if state is None:
                state = states[device_id] = _state(row)
                labels[device_id] = labels_of(row)
                if mappings and row["project_id"] is not None and row["model_id"] in mappings:
                    mapped[device_id] = mappings[row["model_id"]]
            last_seen[device_id] = message.received_at
            if message.telemetry is not None:
                outcomes[Stored.STORED] += 1
                mapping = mapped.get(device_id) if mapped else None
                late = mapping is not None and state.latest is not None and message.at < state.latest
                state.merge(message.telemetry, message.at)
                data = _data(message.telemetry, message.update_time)
                project_id = row["project_id"]
                made.rows.append((EventType.TELEMETRY, device_id, project_id, message.at, data, labels[device_id]))
                if mapping is not None and message.telemetry.telemetries is not msgspec.UNSET:
                    values = message.telemetry.telemetries
                    events, unfit = mapping.events(values, state.telemetries, message.at, late=late)
                    made.unfit += unfit
                    for event_type, json in events:
                        made.add_typed(event_type, device_id, project_id, message.at, json, labels[device_id])
        if states:
            await self._write_states(connection, states, last_seen)
            await self._back_online(connection, [i for i in states if known[i]["offline"]])
        return made

    async def _write_states(
        self, connection: Connection, states: dict[str, State], last_seen: dict[str, datetime]
    ) -> None:
        """By way of a temporary table: COPY takes a row in a third of the time that arrays of parameters need."""
        await connection.execute(_STATES_TABLE)
        await connection.copy_records_to_table(
            "flushed_states",
            records=[(i, s.status, s.telemetries, s.times, s.latest, s.floor, last_seen[i]) for i, s in states.items()],
        )
        await connection.execute(
            """
            INSERT INTO device_state AS s
                   (device_id, shard, status, telemetries, times, state_at, floor_at, last_seen_at, offline)
            SELECT device_id, $1, status, telemetries, times, state_at, floor_at, last_seen_at, false
              FROM flushed_states ORDER BY device_id
            ON CONFLICT (device_id) DO UPDATE SET
                   status = excluded.status, telemetries = excluded.telemetries, times = excluded.times,
                   state_at = excluded.state_at, floor_at = excluded.floor_at, offline = false,
                   last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at)
            """,
            self.shard,
        )

    async def _back_online(self, connection: Connection, device_ids: list[object]) -> None:
        """Close the automatic incidents of devices that are heard again, and tell of it."""
        if not device_ids:
            return
        now = datetime.now(UTC)
        await connection.execute(
            """UPDATE incidents SET closed_at = $2
                WHERE device_id = ANY($1::uuid[]) AND issue = 'offline' AND closed_at IS NULL""",
            device_ids,
            now,
        )
        await announce(connection, device_ids, offline=False, moment=now)

    async def _isolate(
        self, messages: list[Message], quarantined: list[tuple[str, int, str, bytes]]
    ) -> tuple[list[Message], list[tuple[str, int, str, bytes]]]:
        """Find the messages that Postgres refuses, by trying each alone and rolling back."""
        good: list[Message] = []
        bad = list(quarantined)
        for message in messages:
            try:
                async with self._pool.acquire() as connection:
                    trial = connection.transaction()
                    await trial.start()
                    try:
                        await self._merge(connection, [message], Counter())
                    finally:
                        await trial.rollback()
                good.append(message)
            except asyncpg.DataError as error:
                bad.append((message.entry_id, message.place, str(error), message.body))
        return good, bad


def _place(entry_id: Any) -> tuple[int, int]:
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number or 0)


def _state(row: Any) -> State:
    if row["last_seen_at"] is None:
        return State()
    return State(
        row["status"],
        row["telemetries"],
        row["times"],
        row["state_at"],
        row["floor_at"],
    )


def _data(message: Telemetry, update_time: str) -> msgspec.Raw:
    """The event's data: the message as the device sent it, its time first."""
    return msgspec.Raw(
        b'{"telemetry":{"updateTime":"%b",%b}' % (update_time.encode(), msgspec.json.encode(message)[1:])
    )
