"""Batches of messages on their way to Redis and back: for each shard one that gathers, for each node some under way.

For each shard a round trip holds ``XADD NOMKSTREAM {shard}:ingest`` with all its messages in one entry, and
``HMGET {shard}:reply`` with the prepared reply of each of its devices. Batches grow with load by themselves; there is
no timer. What fails is told as a reason for all of a batch: a lost connection, a full Redis or disk, a shard that is
being rebuilt.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import hiredis

from gateway.ingest.nodes import Nodes
from gateway.ingest.pipe import Pipe, Replies, command
from schemas import entries, keys, logs
from schemas.metrics import Metrics
from schemas.outcomes import Refused

log = logging.getLogger(__name__)

BATCH_MESSAGES_MAX = 1_000
BATCH_BYTES_MAX = 4 * 1024 * 1024
ROUND_TRIPS_MAX = 3
"""Round trips under way at a time to one node. One left the edge waiting for the fsync of its own last batch; with 64
connections two gave 5 % and three 15 % more requests, four no more than three."""
WAIT_MS = 1_000
"""How long a round trip waits for replicas, where it does."""


class Receiver(Protocol):
    """Gets the outcome of a message, or of several that are one call. Exactly one of its methods is called, once."""

    def accepted(self, response_map: bytes) -> None:
        """The message is on disk; `response_map` is the JSON for the device."""

    def refused(self, status: int, text: str, response_map: bytes | None, retry_after_s: int | None) -> None:
        """The message was not accepted. `response_map` is there when it is known all the same."""


class Batch:
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


Deliver = Callable[[Batch, list[bytes | None] | None, Refused | None], None]
"""Told how a batch ended: with the replies of its receivers, or the reason why there are none, or both."""


class RoundTrips:
    """Carries the batches of all shards. Everything is synchronous and runs on the event loop's thread."""

    def __init__(
        self, nodes: Nodes, metrics: Metrics, deliver: Deliver, *, shards: int, timeout_s: float, replicas_min: int = 0
    ) -> None:
        self.waiting = 0
        self.begun = 0
        """Round trips so far."""
        """Messages that were counted in, and not yet delivered."""
        self._nodes = nodes
        self._metrics = metrics
        self._deliver = deliver
        self._timeout_s = timeout_s
        self._replicas_min = replicas_min
        self._wait = command(b"WAIT", b"%d" % replicas_min, b"%d" % WAIT_MS) if replicas_min else b""
        self._pending: list[deque[Batch]] = [deque() for _ in range(shards)]
        self._lanes: list[_Lane | None] = [None] * shards
        self._loop = asyncio.get_running_loop()
        self._stream = [keys.ingest(shard).encode() for shard in range(shards)]
        self._reply = [keys.reply(shard).encode() for shard in range(shards)]

    def __repr__(self) -> str:
        return f"<RoundTrips shards={len(self._pending)} waiting={self.waiting}>"

    def is_connected(self, shard: int) -> bool:
        """Whether there is a connection to the node of this shard."""
        lane = self._lanes[shard]
        return lane is not None and lane.pipe.connected

    def open(self, shard: int) -> Batch:
        """The batch of a shard that takes more messages; its departure is arranged."""
        pending = self._pending[shard]
        if not pending or pending[-1].messages >= BATCH_MESSAGES_MAX or pending[-1].size >= BATCH_BYTES_MAX:
            pending.append(Batch())
            lane = self._lanes[shard]
            if lane is None:
                self._loop.call_soon(self._fail_pending, shard)
            elif len(lane.under_way) < ROUND_TRIPS_MAX and not lane.scheduled:
                lane.scheduled = True
                self._loop.call_soon(self._depart, lane)
        return pending[-1]

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
        travelling: list[tuple[int, Batch]] = []
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
        self.begun += 1
        self._metrics.edge_batch_messages.observe(messages)
        lane.pipe.send(b"".join(parts), expected, lambda answer: self._arrive(lane, travelling, answer))

    def _arrive(self, lane: _Lane, travelling: list[tuple[int, Batch]], answer: Replies) -> None:
        """Tell every receiver of a round trip how its message ended, and send what gathered meanwhile."""
        lane.under_way.popleft()
        place = 0
        alone = bool(self._wait) and answer is not None and self._lacks_replicas(answer[-1])
        for shard, batch in travelling:
            self.waiting -= batch.messages
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
            self.waiting -= batch.messages
            if batch.receivers:
                self._deliver(batch, None, Refused.REDIS_AWAY)
        self._pending[shard].clear()

    def relane(self) -> None:
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

    def end_late(self) -> None:
        """Abort the pipes whose oldest round trip takes too long; to be called now and then."""
        now = time.monotonic()
        for lane in {lane for lane in self._lanes if lane is not None}:
            if lane.under_way and now - lane.under_way[0] > self._timeout_s:
                lane.pipe.abort()
