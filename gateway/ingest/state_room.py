"""Whether a message finds room in the state of its device, asked only where there is doubt.

The edge answers from Redis and knows no states. The flusher, which does, leaves out what finds no room and marks the
device as full in its prepared reply; from then on its messages are looked at here, as is each that alone has more keys
than a state usually holds. What would pass the limits is refused whole, so that the device hears of it. With Postgres
away it is accepted: the flusher keeps the limits in any case.
"""

from collections.abc import Sequence

from msgspec import UNSET

from gateway.refusals import DoesNotFit
from gateway.stores.devices import states
from schemas.ids import shard_of
from schemas.postgres import Pool, PostgresAway
from schemas.telemetry import Telemetry

FULL_MAX = 1_000_000


class StateRoom:
    """Knows which states were found full."""

    def __init__(self, pool: Pool, shards: int, keys_max: int, bytes_max: int) -> None:
        self._pool = pool
        self._shards = shards
        self._keys_max = keys_max
        self._bytes_max = bytes_max
        self.full: set[bytes] = set()
        """Devices whose states are full."""

    def __repr__(self) -> str:
        return f"<StateRoom full={len(self.full)}>"

    def learn(self, device_id: bytes) -> None:
        """The device's state is full, as found in its prepared reply."""
        if len(self.full) >= FULL_MAX:
            self.full.clear()
        self.full.add(device_id)

    def forget(self, device_id: bytes) -> None:
        """The device's state has room."""
        self.full.discard(device_id)

    def doubts(self, device_id: bytes, messages: Sequence[Telemetry]) -> bool:
        """Whether `check` is to decide on these messages."""
        if device_id in self.full:
            return True
        keys = 0
        for message in messages:
            if message.telemetries is not UNSET:
                keys += len(message.telemetries)
        return keys > self._keys_max

    def doubts_one(self, device_id: bytes, message: Telemetry) -> bool:
        """As `doubts`, for a single message."""
        values = message.telemetries
        return (values is not UNSET and len(values) > self._keys_max) or device_id in self.full

    async def check(self, device_id: bytes, messages: Sequence[Telemetry]) -> None:
        """Raises DoesNotFit when these messages would take the state beyond its limits."""
        try:
            room = await states.room(self._pool, shard_of(device_id, self._shards), device_id.decode())
        except PostgresAway:
            return
        if room is None:  # deleted: it is about to hear so
            return
        keys_max, bytes_max = room.keys_max or self._keys_max, room.bytes_max or self._bytes_max
        values = room.telemetries
        for message in messages:
            if message.override:
                values = {}
            if message.telemetries is UNSET:
                continue
            was = len(values)
            values = {key: value for key, value in (values | message.telemetries).items() if value is not None}
            if len(values) > max(was, keys_max):
                raise DoesNotFit(f"The state of this device would have {len(values)} keys, it holds {keys_max}")
        if (size := states.size(values)) > max(bytes_max, states.size(room.telemetries)):
            raise DoesNotFit(f"The state of this device would have {size} bytes, it holds {bytes_max}")
