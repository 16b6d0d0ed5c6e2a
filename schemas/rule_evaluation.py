"""What a rule makes of a device's values: the pure part, for the flusher as messages come and for dry runs.

    evaluate(condition, state, at, value) → what to do (open, close or nothing), and the state from then on

    quiet ─holds─► holding since … ─for as long as the rule says─► open ─released─► quiet
                         └─does not hold─► quiet

A rule holds while value and threshold compare as it says. An open incident is released when they no longer do, by the
hysteresis at least: above 80 with a hysteresis of 5 opens at 81 and closes at 75. A value holds until another one
comes, so a device that sends the same rarely is judged by times, not by numbers of messages.

Late messages: what is older than the newest message that was looked at changes nothing, so nothing is opened or closed
again by them. Restarts: the state is all there is to know; it is stored with the messages that led to it. A rule whose
condition was changed forgets since when it held, not that it is open.
"""

import zlib
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

Value = int | float | bool | str
Comparison = Literal["gt", "ge", "lt", "le", "eq", "ne"]
Outcome = Literal["open", "close"] | None
NUMBERS: tuple[Comparison, ...] = ("gt", "ge", "lt", "le")
"""Comparisons of numbers alone; the others are of any values of one kind."""

_MICROSECONDS = 1_000_000


class Condition(Struct, frozen=True):
    """When a rule holds, for how many seconds, and how far back a value must go to release it."""

    comparison: Comparison
    value: Value
    duration_s: int = 0
    hysteresis: float = 0.0

    def mark(self) -> int:
        """Tells this condition from what the rule said before."""
        return zlib.crc32(msgspec.json.encode(self))


class RuleState(Struct, frozen=True, array_like=True):
    """How far a rule is with a device. Times are in µs since 1970."""

    mark: int
    """Of the condition that it was found by."""
    at: int
    """The newest message that was looked at."""
    since: int | None = None
    """Since when the condition holds; None while it does not."""
    open: bool = False
    value: Value | None = None
    """The value that holds, while it was not opened yet."""

    def tells_more_than(self, before: "RuleState | None") -> bool:
        """Whether it must be stored: times alone do not matter, states keep those of their keys."""
        if before is None:
            return self.open or self.since is not None
        return (self.mark, self.since, self.open) != (before.mark, before.since, before.open)


class Evaluated(NamedTuple):
    """What came of a message: whether an incident is to be opened or closed, and the state from then on."""

    outcome: Outcome
    state: RuleState


def evaluate(condition: Condition, state: RuleState | None, at: int, value: Value | None, mark: int) -> Evaluated:
    """Look at a message of this time with this value of the rule's key; None is one that takes the value away.

    `mark` is that of the condition. A value of another kind than the rule's tells nothing.
    """
    if state is None:
        state = RuleState(mark, at)
    elif at < state.at:
        return Evaluated(None, state)
    elif state.mark != mark:
        state = RuleState(mark, at, open=state.open)
    if value is not None and not _comparable(condition.value, value):
        return Evaluated(None, msgspec.structs.replace(state, at=at))
    if state.open:
        released = value is None or _released(condition, value)
        return Evaluated("close" if released else None, RuleState(mark, at, open=not released))
    if value is None or not holds(condition, value):
        return Evaluated(None, RuleState(mark, at))
    since = at if state.since is None else state.since
    if at - since >= condition.duration_s * _MICROSECONDS:
        return Evaluated("open", RuleState(mark, at, open=True))
    return Evaluated(None, RuleState(mark, at, since, value=value))


def evaluate_held(condition: Condition, state: RuleState, at: int, mark: int) -> Evaluated:
    """Look at a message of this time that does not hold the rule's key: the value before is still the device's."""
    if state.value is None or state.mark != mark or at < state.at:
        return Evaluated(None, state)
    return evaluate(condition, state, at, state.value, mark)


def holds(condition: Condition, value: Value) -> bool:
    """Whether a value meets a condition; one of another kind does not."""
    threshold = condition.value
    if not _comparable(threshold, value):
        return False
    if condition.comparison == "eq":
        return value == threshold
    if condition.comparison == "ne":
        return value != threshold
    return _beyond(condition.comparison, value, threshold)


def _released(condition: Condition, value: Value) -> bool:
    """Whether a value is far enough from the threshold for an open incident to be closed."""
    comparison, back = condition.comparison, condition.hysteresis
    if comparison not in NUMBERS or not back:
        return not holds(condition, value)
    assert isinstance(condition.value, int | float)
    threshold = condition.value - back if comparison in ("gt", "ge") else condition.value + back
    return not _beyond(comparison, value, threshold)


def _beyond(comparison: Comparison, value: Value, threshold: Value) -> bool:
    assert isinstance(value, int | float)
    assert isinstance(threshold, int | float)
    if comparison == "gt":
        return value > threshold
    if comparison == "ge":
        return value >= threshold
    return value < threshold if comparison == "lt" else value <= threshold


def _comparable(threshold: Value, value: Value) -> bool:
    """Whether both are numbers, both texts, or both true or false."""
    return _kind(threshold) is _kind(value)


def _kind(value: Value) -> type:
    return float if type(value) is int else type(value)
