"""States of devices between their rows and their messages, so that a merge costs what its message does.

    telemetries, times               the whole state of most devices; of a large one what changed lately
    settled, settled_times, …_at     the rest of a large one

A message whose keys all lie in the recent part is merged into that alone: what is there is newer than what is settled.
For another one the settled part is read as well, and its keys belong to the recent part from then on. When that has
grown the two become one again, which settles anew: the settled part is written once for some kilobytes of news.

A state has limits by its model: values that would pass them are left out, and the device is marked as full.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from schemas.telemetry import Telemetry
from workers.flusher.state import STATUS, State, microseconds

RECENT_BYTES_MAX = 4_096
"""A larger state is split, and a recent part that is larger is settled."""
ROOM_RATIO = 0.9
"""A state that was full has room again when it is less full than this."""

_encode = msgspec.json.Encoder().encode

Settled = tuple[Raw | None, Raw | None, datetime | None]
"""The columns of the settled part; all None where there is none."""


class Limits(NamedTuple):
    """Limits of a state."""

    keys: int
    bytes: int


class StoredState(State):
    """The state of one device: all of it, or the recent part of a large one until `is_whole`."""

    __slots__ = (
        "_encoded",
        "_floor",
        "_limits",
        "_news",
        "_oversize",
        "is_known",
        "is_whole",
        "last_seen",
        "message_seq",
        "offline",
        "settled",
        "told",
    )

    def __init__(self, row: Any, limits: Limits) -> None:
        self.last_seen: datetime | None = None
        self.message_seq: int | None = None
        """The number in the log of the newest message, if that is one of this batch."""
        self.settled: Settled | None = None
        """What to write of the settled part; None where it stays as it is."""
        self._limits = limits
        self._encoded: bytes | None = None
        """The values as JSON, where the last message was all there is of them."""
        self._oversize = False
        self._news: set[str] | None = None
        """The keys of the recent part, where the state is whole and has a settled one, too."""
        self.is_known = row is not None
        if row is None:
            State.__init__(self, keys_max=limits.keys)
            self.offline, self.is_whole = False, True
        else:
            _, status, telemetries, times, latest, floor, self.offline, settled_at, _ = row
            State.__init__(self, status, telemetries, times, latest, floor, keys_max=limits.keys)
            self.is_whole = settled_at is None
        self.told = self.status
        """What the device had told of itself before."""
        self._floor = self.floor

    def __repr__(self) -> str:
        return f"<StoredState {self.latest}>"

    def needs_whole(self, message: Telemetry, *, full: bool, others: Collection[str] = ()) -> bool:
        """Whether a message cannot be merged into the recent part alone.

        `full` says whether the state was found full, which a removal may end; `others` are keys that are read with the
        message.
        """
        values = {} if message.telemetries is UNSET else message.telemetries
        if message.override or (full and None in values.values()):
            return True
        recent, times = self.telemetries, self.times
        return any(key not in recent and key not in times for keys in (values, others) for key in keys)

    def complete(self, row: Any) -> None:
        """Put the settled part of the row below the recent one."""
        settled, times = row["settled"], row["settled_times"]
        self._news = {*self.telemetries, *self.times} - {STATUS}
        if row["settled_at"] != self.latest:
            times = dict.fromkeys(settled, microseconds(row["settled_at"])) | times
        self.telemetries = {key: settled[key] for key in settled if key not in self.times} | self.telemetries
        self.times = {key: times[key] for key in times if key not in self._news} | self.times
        self.is_whole = True
        self._oversize = len(self.telemetries) > self._limits.keys

    def merge(self, message: Telemetry, at: datetime) -> None:
        """Merge a message whose time is `at`."""
        self._encoded = None
        State.merge(self, message, at)
        if self._news is not None and message.telemetries is not UNSET:
            self._news.update(message.telemetries)

    def merge_same(self, message: Telemetry, at: datetime, encoded: bytes) -> bool:
        """Merge a message that has the keys which the device always sends; False, and nothing is done, if it has not.

        `encoded` are its telemetries as JSON. What is found here `merge` would find too.
        """
        values = message.telemetries
        if (
            self.times
            or self._news is not None
            or values is UNSET
            or values.keys() != self.telemetries.keys()
            or message.status is None
            or message.override
            or self.floor is not None
            or self.latest is None
            or at < self.latest
            or None in values.values()
            or len(values) > self.keys_max
        ):
            return False
        self.telemetries, self.status, self.latest, self._encoded = values, message.status, at, encoded
        return True

    def is_seen_otherwise(self) -> bool:
        """Whether the device may be seen otherwise than before these messages."""
        return self.offline or not self.is_known or self.status != self.told

    def is_swollen(self) -> bool:
        """Whether the recent part is so large that it must be settled, for which the state is not whole."""
        return not self.is_whole and sum(map(len, self._recent())) > RECENT_BYTES_MAX

    def has_room(self) -> bool:
        """Whether the state, if it is whole, is well below its limits."""
        if not self.is_whole or self.left_out or len(self.telemetries) > ROOM_RATIO * self._limits.keys:
            return False
        return len(msgspec.json.encode(self.telemetries)) <= ROOM_RATIO * self._limits.bytes

    def parts(self) -> tuple[bytes, bytes]:
        """Values and times as they are to be stored; sets `settled` where that changes."""
        telemetries, times = self._recent()
        if not self.is_whole:
            return telemetries, times
        must = self._oversize or self.forgot or (self._news is not None and self.floor != self._floor)
        if must or len(telemetries) + len(times) > RECENT_BYTES_MAX:
            return self._settle()
        return telemetries, times

    def _recent(self) -> tuple[bytes, bytes]:
        telemetries, times = self.telemetries, self.times
        if self._news is not None:
            telemetries = {key: telemetries[key] for key in self._news if key in telemetries}
            times = {key: times[key] for key in (*self._news, STATUS) if key in times}
        return self._encoded or _encode(telemetries), _encode(times) if times else b"{}"

    def _settle(self) -> tuple[bytes, bytes]:
        """Cut the state down to its limits and settle all of it, or none where it is small; what is left as recent."""
        bytes_max = self._limits.bytes
        telemetries, times = msgspec.json.encode(self.telemetries), msgspec.json.encode(self.times)
        excess = len(telemetries) - bytes_max
        if excess > 0:
            left_out = 0
            for item in reversed(self.telemetries.items()):
                if excess <= 0:
                    break
                excess -= len(msgspec.json.encode(dict([item]))) - 1
                left_out += 1
            self.leave_out(left_out)
            telemetries, times = msgspec.json.encode(self.telemetries), msgspec.json.encode(self.times)
        kept = self._limits.keys // 2
        while len(times) > bytes_max and kept:
            kept //= 2
            self.forget_removals(kept)
            times = msgspec.json.encode(self.times)
        if len(telemetries) + len(times) <= RECENT_BYTES_MAX:
            self.settled = None, None, None
            return telemetries, times
        of_status = {STATUS: self.times[STATUS]} if STATUS in self.times else {}
        others = {key: time for key, time in self.times.items() if key != STATUS}
        self.settled = Raw(telemetries), Raw(msgspec.json.encode(others)), self.latest
        return b"{}", msgspec.json.encode(of_status)
