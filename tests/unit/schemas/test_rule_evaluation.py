"""What a rule makes of values, message by message. Contract: "Rules": comparison, value, for how long, hysteresis."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.rule_evaluation import Condition, RuleState, Value, evaluate, evaluate_held, holds

S = 1_000_000
ABOVE_80 = Condition("gt", 80, hysteresis=5)


def followed(condition: Condition, told: Iterable[tuple[int, Value | None]], *, restarts: bool = False) -> list[Any]:
    """What comes of messages, each a time in seconds and a value; the state goes through storage if it `restarts`."""
    state, outcomes = None, list[Any]()
    for at, value in told:
        outcome, state = evaluate(condition, state, at * S, value, condition.mark())
        if restarts:
            state = msgspec.json.decode(msgspec.json.encode(state), type=RuleState)
        outcomes.append(outcome)
    return outcomes


@pytest.mark.parametrize(
    ("comparison", "threshold", "held", "not_held"),
    [
        ("gt", 80, [81, 80.5, 2**63], [80, 79.9, -(2**63)]),
        ("ge", 80, [80, 80.0], [79]),
        ("lt", 0.5, [0.4, 0, -1], [0.5, 1]),
        ("le", 0.5, [0.5], [0.6]),
        ("eq", "open", ["open"], ["shut", ""]),
        ("eq", True, [True], [False]),
        ("ne", 5, [4, 5.5], [5, 5.0]),
    ],
)
def test_comparisons(comparison: Any, threshold: Value, held: list[Value], not_held: list[Value]) -> None:
    """Each comparison, at the threshold and beside it."""
    condition = Condition(comparison, threshold)
    assert all(holds(condition, value) for value in held)
    assert not any(holds(condition, value) for value in not_held)
    assert followed(condition, [(0, not_held[0]), (1, held[0]), (2, held[0]), (3, not_held[0])]) == [
        None, "open", None, "close",
    ]  # fmt: skip


@pytest.mark.parametrize(("threshold", "others"), [(1, [True, "1"]), ("1", [1, True]), (True, [1, "true"])])
def test_a_value_of_another_kind_tells_nothing(threshold: Value, others: list[Value]) -> None:
    """Neither does it open nor close, and what is on its way to be opened stays so."""
    condition = Condition("eq", threshold, duration_s=10)
    for other in others:
        assert followed(condition, [(0, threshold), (5, other), (10, threshold), (11, other)]) == [
            None, None, "open", None,
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("comparison", "hysteresis", "beyond", "between", "back"),
    [
        ("gt", 5, 81, [80, 75.1], 75),
        ("ge", 5, 80, [79, 75], 74.9),
        ("lt", 5, 79, [80, 84.9], 85),
        ("le", 5, 80, [85], 86),
    ],
)
def test_hysteresis(comparison: Any, hysteresis: float, beyond: Value, between: list[Value], back: Value) -> None:
    """An open incident is released only beyond the hysteresis, and a value between opens none."""
    condition = Condition(comparison, 80, hysteresis=hysteresis)
    told = [*between, beyond, *between, back, *between]
    outcomes = followed(condition, list(enumerate(told)))
    count = len(between)
    assert outcomes == [None] * count + ["open"] + [None] * count + ["close"] + [None] * count


def test_duration() -> None:
    """It opens once the value was beyond for so long without interruption, by the times of messages."""
    condition = Condition("gt", 80, duration_s=60)
    assert followed(condition, [(0, 90), (59, 90), (60, 90), (61, 90)]) == [None, None, "open", None]
    assert followed(condition, [(0, 90), (30, 80), (60, 90), (119, 90), (120, 81)]) == [None] * 4 + ["open"]
    assert followed(condition, [(0, 90), (30, None), (60, 90)]) == [None, None, None]
    assert followed(condition, [(0, 90), (86_400, 90)]) == [None, "open"]  # it was the value all day


def test_a_message_without_the_key_lets_time_pass() -> None:
    """The value before is still the device's: it opens with that, though it is not sent again."""
    condition = Condition("gt", 80, duration_s=60)
    mark = condition.mark()
    state = evaluate(condition, None, 0, 91, mark).state
    assert evaluate_held(condition, state, 59 * S, mark).outcome is None
    opened = evaluate_held(condition, state, 60 * S, mark)
    assert (opened.outcome, state.value) == ("open", 91)
    assert evaluate_held(condition, opened.state, 61 * S, mark).outcome is None


def test_a_value_that_is_taken_away_closes() -> None:
    """What is not there is beyond nothing."""
    assert followed(ABOVE_80, [(0, 90), (1, None), (2, None), (3, 90)]) == ["open", "close", None, "open"]


def test_late_messages_do_not_open_again() -> None:
    """What is older than the newest that was looked at changes nothing; one of the same time counts."""
    assert followed(ABOVE_80, [(0, 90), (10, 70), (5, 95), (9, 90)]) == ["open", "close", None, None]
    assert followed(ABOVE_80, [(10, 90), (5, 70), (10, 70)]) == ["open", None, "close"]


def test_other_terms_forget_since_when_they_held_and_not_that_it_is_open() -> None:
    """A rule that was changed waits anew, and closes what it opened by its new terms."""
    before, after = Condition("gt", 80, duration_s=10), Condition("gt", 50, duration_s=10)
    pending = evaluate(before, None, 0, 90, before.mark()).state
    assert evaluate(after, pending, 10 * S, 90, after.mark()).outcome is None
    assert evaluate_held(after, pending, 10 * S, after.mark()).outcome is None
    opened = evaluate(before, pending, 10 * S, 90, before.mark()).state
    assert evaluate(after, opened, 11 * S, 60, after.mark()).outcome is None
    assert evaluate(after, opened, 11 * S, 50, after.mark()).outcome == "close"


def test_only_what_matters_is_stored() -> None:
    """That a device is quiet, or still beyond, is no news; what changes is."""
    mark = ABOVE_80.mark()
    quiet = evaluate(ABOVE_80, None, 0, 10, mark).state
    assert not quiet.tells_more_than(None)
    opened = evaluate(ABOVE_80, quiet, 1, 90, mark).state
    assert opened.tells_more_than(None)
    assert opened.tells_more_than(quiet)
    assert not evaluate(ABOVE_80, opened, 2, 91, mark).state.tells_more_than(opened)
    assert evaluate(ABOVE_80, opened, 2, 70, mark).state.tells_more_than(opened)


VALUES = st.one_of(st.none(), st.integers(60, 90), st.just("broken"), st.booleans())


@settings(max_examples=200, deadline=None)
@given(
    told=st.lists(st.tuples(st.integers(0, 50), VALUES), max_size=30),
    condition=st.builds(
        Condition,
        st.sampled_from(["gt", "ge", "lt", "le"]),
        st.integers(70, 80),
        st.integers(0, 10),
        st.sampled_from([0.0, 2.0, 5.0]),
    ),
)
def test_whatever_comes_openings_and_closings_alternate(told: list[tuple[int, Value]], condition: Condition) -> None:
    """Restarts change nothing, and leaving out what came late neither; nothing is opened twice, or closed unopened."""
    outcomes = followed(condition, told)
    happened = [outcome for outcome in outcomes if outcome is not None]
    assert happened == (["open", "close"] * len(happened))[: len(happened)]
    assert followed(condition, told, restarts=True) == outcomes
    newest, in_time = -1, []
    for at, value in told:
        if at >= newest:
            in_time.append((at, value))
            newest = at
    assert [outcome for outcome in followed(condition, in_time) if outcome is not None] == happened
