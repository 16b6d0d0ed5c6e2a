"""The state of a device: the merge of all its messages, by the time of each value.

A late message never overwrites a newer value, but may set what nobody set since. Null removes a key, and the removal
keeps its time, so that a late message does not bring the key back. `override` replaces all that is older than it, and
from then on older messages change nothing. The order in which messages arrive therefore does not matter.

A key whose value is as new as the newest message has no time of its own: a device that always sends the same keys has
no times at all, and its messages are merged without looking at any.

A state has a limit of keys: those that would pass it are left out, the newest first. Removals are remembered up to
about as many; beyond that the oldest are forgotten, and a message that is later than them may bring a key back.
"""

from datetime import datetime, timedelta
from typing import Any

from msgspec import UNSET

from schemas.telemetry import Telemetry
from schemas.times import EPOCH

STATUS = ""
"""Stands for `status` among the keys of times; telemetry keys are never empty."""

_MICROSECOND = timedelta(microseconds=1)


class State:
    """One device's state while a batch is merged into it.

    `times` holds, in µs since 1970, the time of each value that differs from `latest`, and of each removal. `left_out`
    counts the values that found no room, `forgot` says whether removals were forgotten.
    """

    __slots__ = ("floor", "forgot", "keys_max", "latest", "left_out", "status", "telemetries", "times")

    def __init__(
        self,
        status: str | None = None,
        telemetries: dict[str, Any] | None = None,
        times: dict[str, int] | None = None,
        latest: datetime | None = None,
        floor: datetime | None = None,
        *,
        keys_max: int,
    ) -> None:
        self.status = status
        self.telemetries: dict[str, Any] = {} if telemetries is None else telemetries
        self.times: dict[str, int] = {} if times is None else times
        self.latest = latest
        self.floor = floor
        self.keys_max = keys_max
        self.left_out = 0
        self.forgot = False

    def merge(self, message: Telemetry, at: datetime) -> None:
        """Merge one message whose time is `at`."""
        if self.floor is not None and at < self.floor:
            return
        values: dict[str, Any] = {} if message.telemetries is UNSET else message.telemetries
        if message.override:
            self._override(at)
        if self.latest is None or at >= self.latest:
            self._merge_newest(message.status, values, at)
        else:
            self._merge_late(message.status, values, microseconds(at))
        if len(self.telemetries) > self.keys_max:
            self.leave_out(len(self.telemetries) - self.keys_max)
        if len(self.times) > 2 * self.keys_max:
            self.forget_removals(self.keys_max // 2)

    def leave_out(self, count: int) -> None:
        """Drop the keys that came last."""
        for _ in range(count):
            key, _ = self.telemetries.popitem()
            self.times.pop(key, None)
        self.left_out += count

    def forget_removals(self, kept: int) -> None:
        """Forget the oldest removals, but so many."""
        removals = [key for key in self.times if key not in self.telemetries and key != STATUS]
        removals.sort(key=self.times.__getitem__, reverse=True)
        for key in removals[kept:]:
            del self.times[key]
            self.forgot = True

    def _merge_newest(self, status: str | None, values: dict[str, Any], at: datetime) -> None:
        telemetries, times, latest = self.telemetries, self.times, self.latest
        if latest is not None and at != latest:
            if not telemetries.keys() <= values.keys():
                for key in telemetries.keys() - values.keys():
                    times.setdefault(key, microseconds(latest))
            if status is None and self.status is not None:
                times.setdefault(STATUS, microseconds(latest))
        self.latest = at
        if times:
            for key in values:
                times.pop(key, None)
        telemetries.update(values)
        if None in values.values():
            for key in [key for key, value in values.items() if value is None]:
                del telemetries[key]
                times[key] = microseconds(at)
        if status is not None:
            self.status = status
            if times:
                times.pop(STATUS, None)

    def _merge_late(self, status: str | None, values: dict[str, Any], at: int) -> None:
        for key, value in values.items():
            if self.time_of(key) <= at:
                self.times[key] = at
                if value is None:
                    self.telemetries.pop(key, None)
                else:
                    self.telemetries[key] = value
        if status is not None and self.time_of(STATUS) <= at:
            self.times[STATUS] = at
            self.status = status

    def _override(self, at: datetime) -> None:
        """Forget all that is not newer than `at`."""
        self.floor, at_us = at, microseconds(at)
        for key in [key for key in self.telemetries if self.time_of(key) <= at_us]:
            del self.telemetries[key]
        if self.time_of(STATUS) <= at_us:
            self.status = None
        self.times = {key: time for key, time in self.times.items() if time > at_us}

    def time_of(self, key: str) -> int:
        """When a key got its value, or lost it; 0 when it never had one."""
        is_set = self.status is not None if key == STATUS else key in self.telemetries
        implied = microseconds(self.latest) if is_set and self.latest is not None else 0
        return self.times.get(key, implied)


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - EPOCH) // _MICROSECOND
