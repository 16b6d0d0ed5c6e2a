"""Which entries stay in the stream after they were stored, and for how long.

Postgres may be succeeded by a standby that lacks the last commits. What these stored is stored again from the stream,
as long as it is still there.
"""

from collections import defaultdict, deque
from typing import NamedTuple

from workers.flusher.messages import Batch


class _Flushed(NamedTuple):
    """What one flush stored of a shard."""

    at: float
    offset: str
    entries: int
    size: int


class Keeping:
    """Keeps what was stored for `seconds`, of each shard at most `bytes_max`."""

    def __init__(self, seconds: float, bytes_max: int) -> None:
        self._seconds = seconds
        self._bytes_max = bytes_max
        self._flushed: dict[int, deque[_Flushed]] = defaultdict(deque)
        self._bytes: dict[int, int] = defaultdict(int)

    def __repr__(self) -> str:
        return f"<Keeping {sum(map(len, self._flushed.values()))} flushes>"

    def add(self, batch: Batch, now: float) -> None:
        """Note that a batch was stored; `now` is in seconds of a clock that only goes forward."""
        for shard, offset in batch.offsets.items():
            self._flushed[shard].append(_Flushed(now, offset, batch.entries[shard], batch.sizes[shard]))
            self._bytes[shard] += batch.sizes[shard]

    def entries(self, shard: int) -> int:
        """How many entries of the shard are kept."""
        return sum(flushed.entries for flushed in self._flushed[shard])

    def expired(self, now: float) -> dict[int, str]:
        """The offset up to which each shard's stream is to be trimmed; shards of which nothing expired are left out."""
        offsets: dict[int, str] = {}
        for shard, flushed in self._flushed.items():
            while flushed and (flushed[0].at + self._seconds <= now or self._bytes[shard] > self._bytes_max):
                oldest = flushed.popleft()
                self._bytes[shard] -= oldest.size
                offsets[shard] = oldest.offset
        return offsets

    def forget(self, shard: int) -> None:
        """Keep nothing of this shard: it has another owner, who keeps what it stores itself."""
        self._flushed.pop(shard, None)
        self._bytes.pop(shard, None)
