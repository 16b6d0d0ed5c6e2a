"""Places in the log: how far it was read for all who follow its end, and how far for one connector."""

from collections import deque
from datetime import datetime, timedelta

from workers.dispatcher.delivery import Delivery

CLOCK_SLACK = timedelta(days=1)
"""How far a clock may jump back before events would be looked for in too few partitions."""


class Shard:
    """How far the tail has read one shard's log, for all connectors that follow it."""

    __slots__ = ("seq", "shard", "stored_at")

    def __init__(self, shard: int, seq: int, stored_at: datetime) -> None:
        self.shard = shard
        self.seq = seq
        self.stored_at = stored_at

    def __repr__(self) -> str:
        return f"<Shard {self.shard} at {self.seq}>"


class Cursor:
    """A connector's place in the log of one shard. While it is `live` the tail reads for it."""

    __slots__ = ("_read", "committed", "live", "queue", "stored_at", "tail")

    def __init__(self, seq: int, stored_at: datetime, tail: Shard) -> None:
        self.committed = seq
        self.stored_at = stored_at
        self.tail = tail
        self.live = False
        self.queue: deque[Delivery] = deque()
        self._read = seq

    @property
    def read(self) -> int:
        """The next event to read."""
        return self.tail.seq if self.live else self._read

    def fall_behind(self, seq: int) -> None:
        """Leave the tail: the next event to read is this."""
        self.live = False
        self._read = seq

    def place(self) -> int:
        """The first event that is not done with."""
        first = self.queue[0].event if self.queue else None
        return self.read if first is None else first.seq
