"""Durable ingest: what turns telemetry into a 2xx that means "on disk".

    offer ──check key, decode, count──▶ pending batch of the shard ──┐
                                                                     │ at most three round trips a node at a time,
    receiver ◀── its own reply, or a refusal with a reason ◀─────────┘ each carrying all that gathered meanwhile

For each shard a round trip holds ``XADD NOMKSTREAM {shard}:ingest`` with all its messages in one entry, and
``HMGET {shard}:reply`` with the prepared reply of each of its devices. Batches grow with load by themselves; there is
no timer. Redis answers after its fsync (with ``appendfsync always``), and only then does a receiver hear "accepted".

What fails, fails towards "not accepted": a lost connection, a full Redis or disk, a shard that is being rebuilt, or
too much that waits all end as a refusal with a reason, and the device sends again. A device that was refused while a
connection broke may have been stored all the same; nothing that was accepted is ever lost.

While telemetry is shed (Redis fuller, or a backlog longer, than its mark) devices still get their reply with the
refusal, so commands and config reach them all the same.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import hiredis

from gateway import refusals
from gateway.ingest.call_limit import CallLimit
from gateway.ingest.nodes import Nodes
from gateway.ingest.pipe import Pipe, Replies, command
from gateway.ingest.state_room import StateRoom
from schemas import entries, keys, logs, replies, telemetry
from schemas.ids import AccessKeys, shard_of
from schemas.metrics import Metrics
from schemas.outcomes import Refused
from schemas.redis import RedisAway
from schemas.telemetry import Telemetry

log = logging.getLogger(__name__)

BATCH_MESSAGES_MAX = 1_000
BATCH_BYTES_MAX = 4 * 1024 * 1024
ROUND_TRIPS_MAX = 3
"""Round trips under way at a time to one node. One left the edge waiting for the fsync of its own last batch; with 64
connections two gave 5 % and three 15 % more requests, four no more than three."""
WAIT_MS = 1_000
"""How long a round trip waits for replicas, where it does."""

SENTENCES = {
    Refused.SHED_MEMORY: "Telemetry is not taken at the moment: the message store is nearly full",
    Refused.SHED_BACKLOG: "Telemetry is not taken at the moment: the backlog is too long",
    Refused.SHED_PENDING: "Telemetry is not taken at the moment: too many messages are waiting",
    Refused.REDIS_AWAY: "The message store is not available",
    Refused.REDIS_FULL: "The message store is full",
    Refused.REDIS_DISK: "The message store cannot write to its disk",
    Refused.REDIS_REPLICAS: "The message store's replicas do not follow",
    Refused.REBUILDING: "The message store is being rebuilt",
}


class Receiver(Protocol):
    """Gets the outcome of a message, or of several that are one call. Exactly one of its methods is called, once."""

    def accepted(self, response_map: bytes) -> None:
        """The message is on disk; `response_map` is the JSON for the device."""

    def refused(self, status: int, text: str, response_map: bytes | None, retry_after_s: int | None) -> None:
        """The message was not accepted. `response_map` is there when it is known all the same."""


class _Batch:
    """Messages of one shard that travel together."""

    __slots__ = ("items", "messages", "opened_at", "receivers", "size")

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.receivers: list[tuple[Receiver, bytes, bytes, Refused | None, int]] = []
        """Who waits, for the messages of which device, whether they are shed, and how many they are."""
        self.messages = 0
        self.size = 0
        self.opened_at = time.perf_counter()

    def take(self, device_id: bytes, key_version: bytes, body: bytes) -> None:
        """Take one message."""
        self.items += (device_id, key_version, body)
        self.size += len(body)


class _Lane:
    """One node's pipe with the shards it serves, and when each round trip under way departed."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.shards: list[int] = []
        self.under_way: deque[float] = deque()
        self.scheduled = False


class Ingest:
    """Accepts telemetry into Redis. Everything but `run` is synchronous and runs on the event loop's thread."""

    def __init__(
        self,
        nodes: Nodes,
        access_keys: AccessKeys,
        call_limit: CallLimit,
        state_room: StateRoom,
        metrics: Metrics,
        *,
        shards: int,
        pending_max: int,
        timeout_s: float,
        replicas_min: int = 0,
    ) -> None:
        self.shed: list[Refused | None] = [None] * shards
        self._nodes = nodes
        self._verify = access_keys.verify
        self._awaits = access_keys.awaits
        self._limit = call_limit
        self._room = state_room
        self._metrics = metrics
        self._shards = shards
        self._pending_max = pending_max
        self._timeout_s = timeout_s
        self._replicas_min = replicas_min
        self._wait = command(b"WAIT", b"%d" % replicas_min, b"%d" % WAIT_MS) if replicas_min else b""
        self._pending: list[deque[_Batch]] = [deque() for _ in range(shards)]
        self._waiting = 0
        self._lanes: list[_Lane | None] = [None] * shards
        self._tasks: set[asyncio.Task[None]] = set()
        self._now = datetime.now(UTC)
        self._loop = asyncio.get_running_loop()
        self._stream = [keys.ingest(shard).encode() for shard in range(shards)]
        self._reply = [keys.reply(shard).encode() for shard in range(shards)]

    def __repr__(self) -> str:
        return f"<Ingest shards={self._shards} waiting={self._waiting}>"

    def is_connected(self, shard: int) -> bool:
        """Whether there is a connection to the node of this shard."""
        lane = self._lanes[shard]
        return lane is not None and lane.pipe.connected

    # Offering messages

    def offer(
        self,
        receiver: Receiver,
        device_id: bytes,
        key: bytes,
        body: bytes,
        message: Telemetry | None = None,
        more: Sequence[bytes] = (),
    ) -> None:
        """Take one message of a device that presents `key` (an access key); `message` is the body, if decoded.

        With `more` messages they are one call of the device, and are stored together or not at all.
        """
        if self._verify(device_id, key):
            self.offer_trusted(receiver, device_id, key[:2], body, message, more)
            return
        self._metrics.received.inc(1 + len(more))
        if self._awaits(key):
            again_s = refusals.retry_after_s()
            self._refuse(
                receiver, 503, refusals.UNKNOWN_MASTER_KEY, Refused.UNAUTHORIZED, again_s, messages=1 + len(more)
            )
        else:
            self._refuse(receiver, 401, "Unauthorized", Refused.UNAUTHORIZED, messages=1 + len(more))

    def knows(self, device_id: bytes, key: bytes) -> bool:
        """Whether `key` is an access key of the device: to be asked before a body is read."""
        return self._verify(device_id, key)

    def offer_trusted(
        self,
        receiver: Receiver,
        device_id: bytes,
        key_version: bytes,
        body: bytes,
        message: Telemetry | None = None,
        more: Sequence[bytes] = (),
    ) -> None:
        """As `offer`, for a device that was authenticated in another way (a child, by its parent)."""
        checked = 0
        try:
            if message is None:
                message = telemetry.decode(body, self._now)
            else:
                telemetry.check(message, len(body), self._now)
            messages = [message]
            for later in more:
                checked += 1
                messages.append(telemetry.decode(later, self._now))
        except telemetry.TelemetryError as error:
            self._metrics.received.inc(1 + len(more))
            reason = Refused.TOO_LARGE if error.status == 413 else Refused.MALFORMED
            text = f"Message {checked + 1}: {error}" if more else str(error)
            self._refuse(receiver, error.status, text, reason, messages=1 + len(more))
            return
        ordinal = self._limit.take(device_id)
        if not self._room.doubts(device_id, messages):
            messages = []
        if ordinal or messages:
            submitting = self._submit_checked(receiver, device_id, key_version, body, more, ordinal, messages)
            task = asyncio.create_task(submitting)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._submit(receiver, device_id, key_version, body, more)

    def refuse_too_large(self, receiver: Receiver) -> None:
        """Count and refuse a message whose body is longer than the limit and was not read."""
        self._metrics.received.inc()
        text = f"A telemetry message is at most {telemetry.BODY_BYTES_MAX} bytes"
        self._refuse(receiver, 413, text, Refused.TOO_LARGE)

    def seen(self, device_id: bytes, key_version: bytes) -> None:
        """Note that a device made a call other than telemetry. Best effort: not waited for."""
        shard = shard_of(device_id, self._shards)
        if self.shed[shard] is None and self._waiting < self._pending_max:
            self._open(shard).take(device_id, key_version, b"")

    async def _submit_checked(
        self,
        receiver: Receiver,
        device_id: bytes,
        key_version: bytes,
        body: bytes,
        more: Sequence[bytes],
        ordinal: int,
        doubted: Sequence[Telemetry],
    ) -> None:
        """Submit after what takes time: the call's `ordinal` among all edges, and room for the `doubted` messages."""
        try:
            if ordinal:
                await self._limit.count_shared(device_id, ordinal)
            if doubted:
                await self._room.check(device_id, doubted)
        except refusals.TooMany as refusal:
            self._metrics.received.inc(1 + len(more))
            self._refuse(
                receiver, 429, refusal.text, Refused.RATE_LIMITED, refusal.retry_after_s, messages=1 + len(more)
            )
        except refusals.DoesNotFit as refusal:
            self._metrics.received.inc(1 + len(more))
            self._refuse(receiver, 422, refusal.text, Refused.STATE_FULL, messages=1 + len(more))
        except RedisAway:
            self._metrics.received.inc(1 + len(more))
            self._refuse_later(receiver, Refused.REDIS_AWAY, messages=1 + len(more))
        else:
            self._submit(receiver, device_id, key_version, body, more)

    def _submit(
        self, receiver: Receiver, device_id: bytes, key_version: bytes, body: bytes, more: Sequence[bytes]
    ) -> None:
        messages = 1 + len(more) if more else 1
        if self._waiting >= self._pending_max:
            self._metrics.received.inc(1 + len(more))
            self._refuse_later(receiver, Refused.SHED_PENDING, messages=messages)
            return
        shard = shard_of(device_id, self._shards)
        self._waiting += messages
        shed = self.shed[shard]
        batch = self._open(shard)
        if not shed:
            batch.take(device_id, key_version, body)
            for later in more:
                batch.take(device_id, key_version, later)
        batch.messages += messages
        batch.receivers.append((receiver, device_id, key_version, shed, messages))

    def _open(self, shard: int) -> _Batch:
        """The batch of a shard that takes more messages; its departure is arranged."""
        pending = self._pending[shard]
        if not pending or pending[-1].messages >= BATCH_MESSAGES_MAX or pending[-1].size >= BATCH_BYTES_MAX:
            pending.append(_Batch())
            lane = self._lanes[shard]
            if lane is None:
                self._loop.call_soon(self._fail_pending, shard)
            elif len(lane.under_way) < ROUND_TRIPS_MAX and not lane.scheduled:
                lane.scheduled = True
                self._loop.call_soon(self._depart, lane)
        return pending[-1]

    # Round trips

    def _depart(self, lane: _Lane) -> None:
        """Send the next batch of each of the lane's shards in one round trip."""
        lane.scheduled = False
        if not lane.pipe.connected:
            for shard in lane.shards:
                self._fail_pending(shard)
            return
        if len(lane.under_way) >= ROUND_TRIPS_MAX:
            return
        received_at_us = time.time_ns() // 1000
        parts: list[bytes] = []
        travelling: list[tuple[int, _Batch]] = []
        expected = messages = 0
        for shard in lane.shards:
            if not self._pending[shard]:
                continue
            batch = self._pending[shard].popleft()
            travelling.append((shard, batch))
            if batch.items:
                packed = entries.pack(received_at_us, batch.items, lane.pipe.server)
                stream = self._stream[shard]
                parts.append(
                    b"*6\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$10\r\nNOMKSTREAM\r\n$1\r\n*\r\n$1\r\nb\r\n$%d\r\n%b\r\n"
                    % (len(stream), stream, len(packed), packed)
                )
                expected += 1
            if batch.receivers:
                reply = self._reply[shard]
                count = len(batch.receivers)
                parts.append(b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n$1\r\n!" % (count + 3, len(reply), reply))
                parts += [b"\r\n$36\r\n" + device_id for _, device_id, _, _, _ in batch.receivers]
                parts.append(b"\r\n")
                expected += 1
                messages += batch.messages
        if not travelling:
            return
        if self._wait:
            parts.append(self._wait)
            expected += 1
        lane.under_way.append(time.monotonic())
        self._metrics.edge_batch_messages.observe(messages)
        lane.pipe.send(b"".join(parts), expected, lambda answer: self._arrive(lane, travelling, answer))

    def _arrive(self, lane: _Lane, travelling: list[tuple[int, _Batch]], answer: Replies) -> None:
        """Tell every receiver of a round trip how its message ended, and send what gathered meanwhile."""
        lane.under_way.popleft()
        place = 0
        alone = bool(self._wait) and answer is not None and self._lacks_replicas(answer[-1])
        for shard, batch in travelling:
            self._waiting -= batch.messages
            added = maps = None
            if answer is None:
                reason: Refused | None = Refused.REDIS_AWAY
            else:
                reason = None
                if batch.items:
                    added, place = answer[place], place + 1
                    reason = self._reason(shard, added) or (Refused.REDIS_REPLICAS if alone else None)
                if batch.receivers:
                    maps, place = answer[place], place + 1
                    if isinstance(maps, hiredis.ReplyError) or maps[0] is None:
                        reason = self._reason(shard, maps if isinstance(maps, hiredis.ReplyError) else None)
                        maps = None
            if batch.receivers:
                self._deliver(batch, maps, reason)
        self._depart(lane)

    def _lacks_replicas(self, waited: object) -> bool:
        """Whether too few replicas have what was sent, by the answer to WAIT."""
        return not isinstance(waited, int) or waited < self._replicas_min

    def _deliver(self, batch: _Batch, maps: list[bytes | None] | None, failed: Refused | None) -> None:
        accepted = 0
        limit = self._limit
        self._metrics.received.inc(batch.messages)
        if maps is None:
            assert failed is not None
            for receiver, _, _, _, messages in batch.receivers:
                self._refuse_later(receiver, failed, messages=messages)
            return
        place = 0
        for receiver, device_id, key_version, shed, messages in batch.receivers:
            place += 1
            value = maps[place]
            if value is None:
                response_map = replies.NOTHING_WAITS
            elif value[26] == replies.DELETED or (value[16:18] != key_version and value[14:16] != key_version):
                self._refuse(receiver, 401, "Unauthorized", Refused.UNAUTHORIZED, messages=messages)
                continue
            else:
                if value[18:26] == replies.DEFAULT_RATE_LIMIT_HEX:
                    limit.forget(device_id)
                else:
                    limit.learn(device_id, int(value[18:26], 16))
                if value[26] == replies.FULL:
                    self._room.learn(device_id)
                elif self._room.full:
                    self._room.forget(device_id)
                response_map = value[27:]
            reason = failed or shed
            if reason is None:
                accepted += messages
                receiver.accepted(response_map)
            else:
                self._refuse_later(receiver, reason, response_map, messages=messages)
        if accepted:
            self._metrics.accepted.inc(accepted)
        self._metrics.observe_telemetry(time.perf_counter() - batch.opened_at, accepted)

    def _reason(self, shard: int, reply: object) -> Refused | None:
        """Why Redis did not do what it was asked; None when it did."""
        if reply is None:
            return Refused.REBUILDING
        if not isinstance(reply, hiredis.ReplyError):
            return None
        text = str(reply)
        if text.startswith("OOM"):
            return Refused.REDIS_FULL
        if text.startswith("MISCONF"):
            return Refused.REDIS_DISK
        if text.startswith(("MOVED", "ASK", "CLUSTERDOWN", "READONLY", "TRYAGAIN")):
            self._nodes.moved.set()
        lane = self._lanes[shard]
        if text.startswith("READONLY") and lane is not None:
            # A primary no more: the address may lead to the new one, this connection never will.
            lane.pipe.abort()
        logs.event(log, logging.WARNING, "redis_refused", shard=shard, cause=text)
        return Refused.REDIS_AWAY

    def _fail_pending(self, shard: int) -> None:
        for batch in self._pending[shard]:
            self._waiting -= batch.messages
            if batch.receivers:
                self._deliver(batch, None, Refused.REDIS_AWAY)
        self._pending[shard].clear()

    # Refusals

    def _refuse_later(
        self, receiver: Receiver, reason: Refused, response_map: bytes | None = None, *, messages: int = 1
    ) -> None:
        retry_after_s = refusals.retry_after_s()
        self._refuse(receiver, 503, SENTENCES[reason], reason, retry_after_s, response_map, messages=messages)

    def _refuse(
        self,
        receiver: Receiver,
        status: int,
        text: str,
        reason: Refused,
        retry_after_s: int | None = None,
        response_map: bytes | None = None,
        *,
        messages: int = 1,
    ) -> None:
        self._metrics.refused.labels(reason).inc(messages)
        receiver.refused(status, text, response_map, retry_after_s)

    # Life

    async def run(self) -> None:
        """Keep the pipes up and what they serve current, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nodes.run(self._relane), name="redis nodes")
            group.create_task(self._tick(), name="ingest tick")

    def _relane(self) -> None:
        """Follow the nodes: which pipe serves which shard now."""
        lanes: dict[Pipe, _Lane] = {lane.pipe: lane for lane in self._lanes if lane is not None}
        for lane in lanes.values():
            lane.shards = []
        for shard, pipe in enumerate(self._nodes.pipes):
            if pipe is None:
                self._lanes[shard] = None
                self._fail_pending(shard)
            else:
                lane = self._lanes[shard] = lanes.setdefault(pipe, _Lane(pipe))
                lane.shards.append(shard)
        for lane in lanes.values():
            self._depart(lane)

    async def _tick(self) -> None:
        while True:
            self._now = datetime.now(UTC)
            self._limit.tick()
            now = time.monotonic()
            for lane in {lane for lane in self._lanes if lane is not None}:
                if lane.under_way and now - lane.under_way[0] > self._timeout_s:
                    lane.pipe.abort()
            await asyncio.sleep(0.5)
