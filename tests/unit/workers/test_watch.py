"""What a device's rules make of its messages is the same whether or not most of it is skipped."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.rule_evaluation import Condition, RuleState, evaluate, evaluate_held
from schemas.telemetry import Telemetry
from schemas.times import EPOCH
from workers.flusher.rules import Rule, RuleSet, bounds
from workers.flusher.state import State
from workers.flusher.watch import Watch

KEYS = st.sampled_from(["a", "b", "c"])
NUMBERS = st.one_of(st.integers(0, 9), st.floats(0, 9))
VALUES = st.one_of(NUMBERS, st.sampled_from(["x", "y", True, False, None]))
CONDITIONS = st.one_of(
    st.builds(
        Condition, st.sampled_from(["gt", "ge", "lt", "le"]), NUMBERS, st.sampled_from([0, 3]), st.sampled_from([0, 2])
    ),
    st.builds(Condition, st.sampled_from(["eq", "ne"]), st.sampled_from([3, "x", True]), st.sampled_from([0, 3])),
)
MESSAGES = st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=8)


def rule_of(name: str, key: str, condition: Condition, *, enabled: bool = True) -> Rule:
    return Rule(name, key, condition, condition.mark(), "Title", "", 3, enabled, *bounds(condition))


def plainly(rules: list[Rule], messages: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """What opens and closes, evaluating each rule with each message."""
    states: dict[str, RuleState | None] = {}
    found = []
    for n, values in enumerate(messages):
        for rule in rules:
            before, at = states.get(rule.id), n * 1_000_000
            if rule.key in values:
                outcome, states[rule.id] = evaluate(rule.condition, before, at, values[rule.key], rule.mark)
            elif before is not None:
                outcome, states[rule.id] = evaluate_held(rule.condition, before, at, rule.mark)
            else:
                continue
            if outcome is not None:
                found.append((rule.id, outcome == "open"))
    return found


@settings(max_examples=200)
@given(st.lists(st.tuples(KEYS, CONDITIONS), max_size=5), MESSAGES, st.integers(1, 3))
def test_what_is_skipped_and_stored_in_between_changes_nothing(
    conditions: list[tuple[str, Condition]], messages: list[dict[str, Any]], batch: int
) -> None:
    """Values between all thresholds are not looked at, and only what holds is remembered from batch to batch."""
    rules = [rule_of(f"{n}", *one) for n, one in enumerate(conditions)]
    rule_set, by_id = RuleSet(rules), {rule.id: rule for rule in rules}
    state, stored, found = State(keys_max=100), None, list[tuple[str, bool]]()
    for first in range(0, len(messages), batch):
        watch = None if stored is None else Watch(rule_set, by_id, stored)
        for n, values in enumerate(messages[first : first + batch], first):
            if watch is None and rule_set.may_hold(values):
                watch = Watch(rule_set, by_id, None)
            if watch is not None:
                known = {rule_id: len(steps) for rule_id, steps in watch.steps.items()}
                message = Telemetry(telemetries=values)
                watch.look(message, EPOCH + timedelta(seconds=n), state, late=False)
                for rule in rules:
                    new = watch.steps.get(rule.id, [])[known.get(rule.id, 0) :]
                    found += [(rule.id, step.before is not None) for step in new]
            state.merge(Telemetry(telemetries=values), EPOCH + timedelta(seconds=n))
        if watch is not None and (packed := watch.packed()) is not None:
            stored = packed.decode()
    assert sorted(found) == sorted(plainly(rules, messages))


def test_between_all_thresholds_nothing_may_hold() -> None:
    """Of a model with rules most messages cost a comparison for each key; what is no number is looked at."""
    rules = [rule_of("high", "a", Condition("gt", 5)), rule_of("low", "a", Condition("le", 1))]
    rule_set = RuleSet([*rules, rule_of("named", "b", Condition("eq", "x"))])
    assert [rule_set.may_hold({"a": value}) for value in (3, 4.5, 6, 1, "text")] == [False, False, True, True, True]
    assert [rule_set.may_hold(values) for values in ({"b": 3}, {"c": 9}, {})] == [True, False, False]


@pytest.mark.parametrize(("known", "steps", "kept"), [("deleted", 0, 0), ("off", 0, 1), ("elsewhere", 1, 0)])
def test_a_state_of_a_rule_that_is_not_the_devices(known: str, steps: int, kept: int) -> None:
    """One that was deleted closed what it opened by itself; one that is off is kept; another one is closed."""
    rule = rule_of("r", "a", Condition("gt", 5), enabled=known != "off")
    stored = f'{{"r":[{rule.mark},0,null,true,null]}}'
    watch = Watch(RuleSet([]), {} if known == "deleted" else {"r": rule}, stored)
    watch.look(Telemetry(telemetries={"a": 1}), EPOCH + timedelta(seconds=1), State(keys_max=9), late=False)
    packed = watch.packed()
    assert (len(watch.steps), stored.count('"r"') if packed is None else packed.count(b'"r"')) == (steps, kept)
