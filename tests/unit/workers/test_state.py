"""The merge of a device's messages does not depend on the order in which they arrive."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.telemetry import Telemetry
from workers.flusher.state import State

KEYS = st.sampled_from(["a", "b", "c"])
MESSAGES = st.lists(
    st.builds(
        Telemetry,
        status=st.sampled_from([None, "online", "error"]),
        telemetries=st.dictionaries(KEYS, st.one_of(st.none(), st.integers(0, 9))),
        override=st.booleans(),
    ),
    max_size=8,
)


KEYS_MAX = 100


def moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def merged(messages: list[tuple[int, Telemetry]], cut: int = 0) -> tuple[Any, Any]:
    """Merge in the given order; after `cut` messages the state is stored and read back."""
    state = State(keys_max=KEYS_MAX)
    for number, (at, message) in enumerate(messages):
        if number == cut:
            stored = state.status, dict(state.telemetries), dict(state.times), state.latest, state.floor
            state = State(*stored, keys_max=KEYS_MAX)
        state.merge(message, moment(at))
    return state.status, state.telemetries


@given(MESSAGES, st.randoms(), st.integers(0, 8))
def test_any_order_of_arrival_gives_the_state_of_the_order_of_time(
    messages: list[Telemetry], random: Any, cut: int
) -> None:
    """With storing and reading back at any point in between."""
    in_time = list(enumerate(messages, start=1))
    shuffled = random.sample(in_time, len(in_time))
    expected_status, expected = None, {}
    for message in messages:
        if message.override:
            expected_status, expected = None, {}
        expected_status = message.status or expected_status
        expected |= message.telemetries
        expected = {key: value for key, value in expected.items() if value is not None}
    assert merged(in_time) == (expected_status, expected)
    assert merged(shuffled, cut) == (expected_status, expected)


def test_times_are_stored_only_where_they_tell_something() -> None:
    """A device that always sends the same keys has none."""
    state = State(keys_max=KEYS_MAX)
    for at in (1, 2, 3):
        state.merge(Telemetry(status="online", telemetries={"a": at}), moment(at))
    assert state.times == {}
    state.merge(Telemetry(telemetries={"a": None}), moment(4))
    assert state.times == {"": 3_000_000, "a": 4_000_000}
