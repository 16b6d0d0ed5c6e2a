"""What the entries of a stream hold: messages, and what cannot be decoded."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from schemas import entries, telemetry
from schemas.events import rfc3339
from schemas.telemetry import Telemetry, TelemetryError
from schemas.times import EPOCH


class Message:
    """One message. `telemetry` is None where the device was only seen; `at` is the time of the message."""

    __slots__ = (
        "at",
        "body",
        "device_id",
        "entry_id",
        "key_version",
        "position",
        "received_at",
        "shard",
        "telemetry",
        "update_time",
    )

    def __init__(
        self,
        shard: int,
        entry_id: str,
        position: int,
        received_at: datetime,
        update_time: bytes,
        device_id: str,
        key_version: int,
        body: bytes,
    ) -> None:
        self.shard = shard
        self.entry_id = entry_id
        self.position = position
        self.received_at = received_at
        self.device_id = device_id
        self.key_version = key_version
        self.body = body
        self.telemetry: Telemetry | None = None
        self.at = received_at
        self.update_time = update_time

    def __repr__(self) -> str:
        return f"<Message {self.entry_id}/{self.position} of {self.device_id}>"


class Quarantined(NamedTuple):
    """What cannot become an event. `position` is that of the message in its entry, -1 stands for the whole entry."""

    shard: int
    entry_id: str
    position: int
    reason: str
    message: bytes


class Batch(NamedTuple):
    """What one transaction stores; by shard, what was read of its stream."""

    messages: list[Message]
    quarantined: list[Quarantined]
    offsets: dict[int, str]
    """The last entry."""
    entries: dict[int, int]
    sizes: dict[int, int]
    """In bytes."""
    servers: dict[int, bytes]
    """The last that an entry names (see schemas.entries); shards whose entries name none are left out."""


def unpack(read: dict[int, list[Any]]) -> Batch:
    """The batch that these entries make, by shard as XREAD gives them."""
    batch = Batch([], [], {}, {}, {}, {})
    for shard, raw_entries in read.items():
        size = 0
        for raw_id, fields in raw_entries:
            data = fields.get(entries.FIELD, b"")
            size += len(data)
            _unpack(shard, raw_id.decode(), data, batch)
        batch.offsets[shard] = raw_entries[-1][0].decode()
        batch.entries[shard], batch.sizes[shard] = len(raw_entries), size
    return batch


def _unpack(shard: int, entry_id: str, data: bytes, batch: Batch) -> None:
    try:
        entry = entries.unpack(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        batch.quarantined.append(Quarantined(shard, entry_id, -1, str(error), data))
        return
    if entry.server:
        batch.servers[shard] = entry.server
    items = entry.items
    received_at = EPOCH + timedelta(microseconds=entry.received_at_us)
    update_time = rfc3339(received_at).encode()
    for first in range(0, len(items), 3):
        device_id, version, body = items[first : first + 3]
        message = Message(
            shard, entry_id, first // 3, received_at, update_time, device_id.decode(), int(version, 16), body
        )
        if body:
            try:
                message.telemetry = telemetry.decode(body, received_at)
            except TelemetryError as error:
                batch.quarantined.append(Quarantined(shard, entry_id, message.position, str(error), body))
                continue
            if message.telemetry.timestamp is not None:
                message.at, message.telemetry.timestamp = message.telemetry.timestamp, None
                message.update_time = rfc3339(message.at).encode()
        batch.messages.append(message)
