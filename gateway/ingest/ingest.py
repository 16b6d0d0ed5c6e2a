"""Durable ingest: what turns telemetry into a 2xx that means "on disk".

    offer ──check key, decode, count──▶ pending batch of the shard ──┐
                                                                     │ at most three round trips a node at a time,
    receiver ◀── its own reply, or a refusal with a reason ◀─────────┘ each carrying all that gathered meanwhile

Batches and round trips are those of `round_trips`. Redis answers after its fsync (with ``appendfsync always``), and
only then does a receiver hear "accepted".

What fails, fails towards "not accepted": a lost connection, a full Redis or disk, a shard that is being rebuilt, or
too much that waits all end as a refusal with a reason, and the device sends again. A device that was refused while a
connection broke may have been stored all the same; nothing that was accepted is ever lost.

While telemetry is shed (Redis fuller, or a backlog longer, than its mark) devices still get their reply with the
refusal, so commands and config reach them all the same.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway import refusals
from gateway.ingest.call_limit import CallLimit
from gateway.ingest.nodes import Nodes
from gateway.ingest.round_trips import Batch, Receiver, RoundTrips
from gateway.ingest.state_room import StateRoom
from schemas import replies, telemetry
from schemas.ids import AccessKeys, shard_of
from schemas.metrics import Metrics
from schemas.outcomes import Refused
from schemas.redis import RedisAway
from schemas.telemetry import Telemetry

_FIRST_KEY = b"00"
_USUAL = _FIRST_KEY + replies.DEFAULT_RATE_LIMIT_HEX + b"."
"""What the header of nearly every prepared reply ends in: compared at once."""

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
        self._trips = RoundTrips(
            nodes, metrics, self._deliver, shards=shards, timeout_s=timeout_s, replicas_min=replicas_min
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._now = datetime.now(UTC)

    def __repr__(self) -> str:
        return f"<Ingest {self._trips!r}>"

    def is_connected(self, shard: int) -> bool:
        """Whether there is a connection to the node of this shard."""
        return self._trips.is_connected(shard)

    def trips(self) -> int:
        """Round trips to Redis so far: while telemetry comes in, there are ever more."""
        return self._trips.begun

    # Offering messages

    def offer(
        self,
        receiver: Receiver,
        device_id: bytes,
        key: bytes,
        body: bytes,
        more: Sequence[bytes] = (),
    ) -> None:
        """Take one message of a device that presents `key` (an access key).

        With `more` messages they are one call of the device, and are stored together or not at all.
        """
        if self._verify(device_id, key):
            self.offer_trusted(receiver, device_id, key[:2], body, more)
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
        more: Sequence[bytes] = (),
    ) -> None:
        """As `offer`, for a device that was authenticated in another way (a child, by its parent)."""
        checked = 0
        try:
            message = telemetry.admit(body, self._now)
            messages = [message] if more else []
            for later in more:
                checked += 1
                messages.append(telemetry.admit(later, self._now))
        except telemetry.TelemetryError as error:
            self._metrics.received.inc(1 + len(more))
            reason = Refused.TOO_LARGE if error.status == 413 else Refused.MALFORMED
            text = f"Message {checked + 1}: {error}" if more else str(error)
            self._refuse(receiver, error.status, text, reason, messages=1 + len(more))
            return
        ordinal = self._limit.take(device_id)
        if more:
            doubted = messages if self._room.doubts(device_id, messages) else []
        else:
            doubted = [message] if self._room.doubts_one(device_id, message) else messages
        if ordinal or doubted:
            submitting = self._submit_checked(receiver, device_id, key_version, body, more, ordinal, doubted)
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
        if self.shed[shard] is None and self._trips.waiting < self._pending_max:
            self._trips.open(shard).take(device_id, key_version, b"")

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
        if self._trips.waiting >= self._pending_max:
            self._metrics.received.inc(1 + len(more))
            self._refuse_later(receiver, Refused.SHED_PENDING, messages=messages)
            return
        shard = shard_of(device_id, self._shards)
        self._trips.waiting += messages
        shed = self.shed[shard]
        batch = self._trips.open(shard)
        if not shed:
            batch.take(device_id, key_version, body)
            for later in more:
                batch.take(device_id, key_version, later)
        batch.messages += messages
        batch.receivers.append((receiver, device_id, key_version, shed, messages))

    def _deliver(self, batch: Batch, maps: list[bytes | None] | None, failed: Refused | None) -> None:
        accepted = 0
        limit, room = self._limit, self._room
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
            elif value[16:27] == _USUAL and key_version == _FIRST_KEY:
                if limit.own:
                    limit.forget(device_id)
                if room.full:
                    room.forget(device_id)
                response_map = value[27:]
            elif self._learn(value, device_id, key_version):
                response_map = value[27:]
            else:
                self._refuse(receiver, 401, "Unauthorized", Refused.UNAUTHORIZED, messages=messages)
                continue
            reason = failed or shed
            if reason is None:
                accepted += messages
                receiver.accepted(response_map)
            else:
                self._refuse_later(receiver, reason, response_map, messages=messages)
        if accepted:
            self._metrics.accepted.inc(accepted)
        self._metrics.observe_telemetry(time.perf_counter() - batch.opened_at, accepted)

    def _learn(self, value: bytes, device_id: bytes, key_version: bytes) -> bool:
        """Take in what a prepared reply says of its device; False when this key is none of its."""
        if value[26] == replies.DELETED or (value[16:18] != key_version and value[14:16] != key_version):
            return False
        if value[18:26] == replies.DEFAULT_RATE_LIMIT_HEX:
            self._limit.forget(device_id)
        else:
            self._limit.learn(device_id, int(value[18:26], 16))
        if value[26] == replies.FULL:
            self._room.learn(device_id)
        else:
            self._room.forget(device_id)
        return True

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
            group.create_task(self._nodes.run(self._trips.relane), name="redis nodes")
            group.create_task(self._tick(), name="ingest tick")

    async def _tick(self) -> None:
        while True:
            self._now = datetime.now(UTC)
            self._limit.tick()
            self._trips.end_late()
            await asyncio.sleep(0.5)
