"""How far rules are with a device while its messages are merged.

Most values lie between all thresholds and change nothing: they cost a comparison for each key (`RuleSet.may_hold`), and
most devices have no watch. Where something may hold, or did, each rule of the message's keys is evaluated
(`schemas.rule_evaluation`). What must be known later is stored with the state of the device, in the transaction that
stores the message: only what holds, and what is open.

A device that left the place of a rule has its incident closed with the next message; a rule that is switched off keeps
what it opened, and is as far as it was when it is switched on again.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from schemas.rule_evaluation import Evaluated, RuleState, Value, evaluate, evaluate_held
from schemas.telemetry import Telemetry
from workers.flusher.rules import Rule, RuleSet
from workers.flusher.state import State, microseconds

_decode = msgspec.json.Decoder(dict[str, RuleState]).decode
_encode = msgspec.json.Encoder().encode


class Step(NamedTuple):
    """An incident of a rule is to be opened, or closed. `before` is where the rule was, as if it had not opened."""

    rule: Rule
    value: Value | None
    before: RuleState | None = None
    """None where it is to be closed."""


class Watch:
    """The rules of one device, and how far they are."""

    __slots__ = ("_by_id", "_changed", "_rules", "_states", "steps")

    def __init__(self, rules: RuleSet, by_id: Mapping[str, Rule], stored: str | None) -> None:
        """`by_id` has all rules there are, also those that are not for this device; `stored` is what `packed` made."""
        self._rules = rules
        self._by_id = by_id
        self._states: dict[str, RuleState] = {}
        self._changed = False
        self.steps: defaultdict[str, list[Step]] = defaultdict(list)
        """What was found, in order, by rule."""
        if stored is not None:
            self._read(stored)

    def __repr__(self) -> str:
        return f"<Watch {self._states}>"

    def _read(self, stored: str) -> None:
        for rule_id, state in _decode(stored).items():
            rule = self._by_id.get(rule_id)
            if rule_id in self._rules.ids or (rule is not None and not rule.enabled):
                self._states[rule_id] = state
                continue
            self._changed = True
            if rule is not None and state.open:
                self.steps[rule_id].append(Step(rule, None))

    def look(self, message: Telemetry, ordered_at: datetime, state: State, *, late: bool) -> None:
        """Look at a message that is about to be merged into the state; `late` where that knows a newer one."""
        if state.floor is not None and ordered_at < state.floor:
            return
        values: Mapping[str, Any] = {} if message.telemetries is UNSET else message.telemetries
        at = microseconds(ordered_at)
        for key, value in values.items():
            rules = self._rules.of_key(key)
            if not rules or (late and at < state.time_of(key)):
                continue
            kind = type(value)
            is_number = kind is float or kind is int
            for rule in rules:
                before = self._states.get(rule.id)
                if before is None and is_number and rule.below < value < rule.above:
                    continue
                self._take(rule, value, before, evaluate(rule.condition, before, at, value, rule.mark))
        if self._states:
            self._look_at_others(values, at, only=message.override)

    def _look_at_others(self, values: Mapping[str, Any], at: int, *, only: bool) -> None:
        """Rules at work whose keys are not in a message, which takes their values away if it is all there is `only`."""
        for rule_id, state in list(self._states.items()):
            rule = self._by_id[rule_id]
            if not rule.enabled or rule.key in values:
                continue
            if only:
                self._take(rule, None, state, evaluate(rule.condition, state, at, None, rule.mark))
            else:
                self._take(rule, state.value, state, evaluate_held(rule.condition, state, at, rule.mark))

    def _take(self, rule: Rule, value: Value | None, before: RuleState | None, evaluated: Evaluated) -> None:
        outcome, state = evaluated
        if outcome == "open":
            since = state.at if before is None or before.since is None else before.since
            self.steps[rule.id].append(Step(rule, value, RuleState(rule.mark, state.at, since, value=value)))
        elif outcome == "close":
            self.steps[rule.id].append(Step(rule, value))
        if not state.tells_more_than(before):
            return
        self._changed = True
        if state.tells_more_than(None):
            self._states[rule.id] = state
        else:
            self._states.pop(rule.id, None)

    def put_off(self, step: Step) -> None:
        """Nothing was opened, since nothing may be now: the next message tries again."""
        assert step.before is not None
        self._states[step.rule.id] = step.before
        self._changed = True

    def packed(self) -> bytes | None:
        """How far the rules are, to be stored; None where that is what was stored before."""
        return _encode(self._states) if self._changed else None
