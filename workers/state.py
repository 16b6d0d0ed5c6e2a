"""The state of a device: the merge of all its messages, by the time of each value.

A late message never overwrites a newer value, but may set what nobody set since. Null removes a key, and the removal
keeps its time, so that a late message does not bring the key back. `override` replaces all that is older than it, and
from then on older messages change nothing. The order in which messages arrive therefore does not matter.
"""

from typing import Any

from msgspec import UNSET

from schemas.telemetry import Telemetry

STATUS = ""
"""Stands for `status` among the keys of times; telemetry keys are never empty."""


class State:
    """One device's state while a batch is merged into it. Times are µs since 1970."""

    __slots__ = ("floor", "latest", "status", "telemetries", "times")

    def __init__(
        self,
        status: str | None = None,
        telemetries: dict[str, Any] | None = None,
        times: dict[str, int] | None = None,
        latest: int | None = None,
        floor: int | None = None,
    ) -> None:
        self.status = status
        self.telemetries: dict[str, Any] = telemetries or {}
        self.latest = latest
        self.floor = floor
        self.times: dict[str, int] = times or {}
        if latest is not None:
            for key in self.telemetries:
                self.times.setdefault(key, latest)
            if status is not None:
                self.times.setdefault(STATUS, latest)

    def merge(self, message: Telemetry, at: int) -> None:
        """Merge one message whose time is `at`."""
        times = self.times
        if self.floor is not None and at < self.floor:
            return
        if message.override:
            self.floor = at
            for key in [key for key, time in times.items() if time <= at]:
                del times[key]
                self._remove(key)
        if message.telemetries is not UNSET:
            for key, value in message.telemetries.items():
                if times.get(key, at) <= at:
                    times[key] = at
                    if value is None:
                        self.telemetries.pop(key, None)
                    else:
                        self.telemetries[key] = value
        if message.status is not None and times.get(STATUS, at) <= at:
            times[STATUS] = at
            self.status = message.status
        if self.latest is None or at > self.latest:
            self.latest = at

    def _remove(self, key: str) -> None:
        if key == STATUS:
            self.status = None
        else:
            self.telemetries.pop(key, None)

    def stored_times(self) -> dict[str, int]:
        """The times worth storing: those that differ from `latest`, and those of removals."""
        return {
            key: time
            for key, time in self.times.items()
            if time != self.latest or (key not in self.telemetries and key != STATUS)
        }
