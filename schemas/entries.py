"""One entry of an ingest stream: everything one edge accepted for one shard in one turn.

    field "b" = MessagePack [layout, received_at_us, items, server]
    items = [device id, key version, body,  device id, key version, body, …]

* `device id` is its 36 ASCII characters, `key version` the two hex digits that open its access key.
* `body` is the telemetry as the device sent it, already checked by the edge (see schemas.telemetry); an empty body
  says only that the device was seen.
* `server` is the run of the Redis server that the edge sent it to: `SERVER_BYTES` bytes, and the last ones of the
  entry. They tell what was added after a fail-over from what was replicated (see workers.flusher.stream).
* A flat list keeps packing at C speed; the edge does no work a message beyond appending three items.
"""

import msgspec

FIELD = b"b"
LAYOUT = 1
SERVER_BYTES = 8


class Entry(msgspec.Struct, array_like=True):
    """A decoded entry. `items` holds three members a message; `server` is empty when it is not known."""

    layout: int
    received_at_us: int
    items: list[bytes]
    server: bytes = b""


_decoder = msgspec.msgpack.Decoder(Entry)
_encoder = msgspec.msgpack.Encoder()


def server_of(run_id: str) -> bytes:
    """The short form of a server's run id (40 hex digits, another one after each start)."""
    return bytes.fromhex(run_id[: 2 * SERVER_BYTES])


def pack(received_at_us: int, items: list[bytes], server: bytes = b"") -> bytes:
    return _encoder.encode((LAYOUT, received_at_us, items, server))


def unpack(data: bytes) -> Entry:
    """Raises msgspec.MsgspecError for anything that no edge of this layout wrote."""
    entry = _decoder.decode(data)
    if entry.layout != LAYOUT or len(entry.items) % 3:
        raise msgspec.ValidationError(f"unknown entry layout {entry.layout}")
    return entry
