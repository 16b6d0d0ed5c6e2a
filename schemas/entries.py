"""One entry of an ingest stream: everything one edge accepted for one shard in one turn.

    field "b" = MessagePack [layout, received_at_us, [device id, key version, body,  device id, key version, body, …]]

* `device id` is its 36 ASCII characters, `key version` the two hex digits that open its access key.
* `body` is the telemetry as the device sent it, already checked by the edge (see schemas.telemetry); an empty body
  says only that the device was seen.
* A flat list keeps packing at C speed; the edge does no work a message beyond appending three items.
"""

import msgspec

FIELD = b"b"
LAYOUT = 1


class Entry(msgspec.Struct, array_like=True):
    """A decoded entry. `items` holds three members a message."""

    layout: int
    received_at_us: int
    items: list[bytes]


_decoder = msgspec.msgpack.Decoder(Entry)
_encoder = msgspec.msgpack.Encoder()


def pack(received_at_us: int, items: list[bytes]) -> bytes:
    return _encoder.encode((LAYOUT, received_at_us, items))


def unpack(data: bytes) -> Entry:
    """Raises msgspec.MsgspecError for anything that no edge of this layout wrote."""
    entry = _decoder.decode(data)
    if entry.layout != LAYOUT or len(entry.items) % 3:
        raise msgspec.ValidationError(f"unknown entry layout {entry.layout}")
    return entry
