"""The per-device call limit: every call counts, in windows of 30 s.

Nearly all devices stay far below their limit, so an edge counts on its own until a device has used a quarter of it;
only from there on is each of its calls counted in Redis, where all edges meet. A device that spreads its calls over
N edges can so exceed its limit by at most N - 1 quarters; through one edge the limit is exact.
"""

import time
from collections.abc import Callable

from gateway.refusals import TooMany
from schemas import keys
from schemas.ids import shard_of
from schemas.redis import Redis
from schemas.replies import DEFAULT_RATE_LIMIT, KEY_VERSION_END, RATE_LIMIT_END

WINDOW_S = 30
_SHARE = 4
LEARNED_MAX = 1_000_000


class CallLimit:
    """Counts the calls of devices and refuses those beyond a device's limit."""

    def __init__(self, redis: Redis, shards: int, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._shards = shards
        self._clock = clock
        self._window = 0
        self._calls: dict[bytes, int] = {}
        self._shared: set[bytes] = set()
        self.own: dict[bytes, int] = {}
        """Limits that differ from the default."""

    def __repr__(self) -> str:
        return f"<CallLimit devices={len(self._calls)} own_limits={len(self.own)}>"

    def learn(self, device_id: bytes, limit: int) -> None:
        """Remember a limit that differs from the default, as found in the device's prepared reply."""
        if len(self.own) >= LEARNED_MAX:
            self.own.clear()
        self.own[device_id] = limit

    def forget(self, device_id: bytes) -> None:
        """The device is back at the default limit."""
        self.own.pop(device_id, None)

    def take(self, device_id: bytes) -> int:
        """Count one call here: 0 when that is all it needs, else its ordinal, for `count_shared` to decide."""
        calls = self._calls[device_id] = self._calls.get(device_id, 0) + 1
        return 0 if calls * _SHARE <= self.own.get(device_id, DEFAULT_RATE_LIMIT) else calls

    def tick(self) -> None:
        """Begin a new window when its time has come; to be called at least once a second."""
        window = int(self._clock()) // WINDOW_S
        if window != self._window:
            self._window = window
            self._calls = {}
            self._shared = set()

    async def count(self, device_id: bytes) -> None:
        """Count one call. Raises TooMany when the device is over its limit."""
        if ordinal := self.take(device_id):
            await self.count_shared(device_id, ordinal)

    async def count_shared(self, device_id: bytes, ordinal: int) -> None:
        """Decide on a call that `take` gave an ordinal. Raises TooMany when the device is over its limit."""
        window, shard = self._window, shard_of(device_id, self._shards)
        # The first shared call of a window brings along those counted only here before it.
        calls = 1 if device_id in self._shared else ordinal
        self._shared.add(device_id)
        key, field = keys.calls(shard, window), device_id.decode()
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hincrby(key, field, calls)
        pipeline.expire(key, 2 * WINDOW_S)
        pipeline.hget(keys.reply(shard), field)
        total, _, reply = await pipeline.execute()
        limit = DEFAULT_RATE_LIMIT if reply is None else int(reply[KEY_VERSION_END:RATE_LIMIT_END], 16)
        if total > limit:
            wait_s = max(1, (window + 1) * WINDOW_S - int(self._clock()))
            raise TooMany(f"More than {limit} calls in {WINDOW_S} seconds", retry_after_s=wait_s)
