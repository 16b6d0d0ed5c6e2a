"""A large state that is stored in two parts is the state that it would be in one."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.telemetry import Telemetry
from workers.flusher import states
from workers.flusher.state import State
from workers.flusher.states import Limits, StoredState

LIMITS = Limits(100, 65_536)
KEYS = st.sampled_from(["a", "b", "c", "d", "e", "f"])
VALUES = st.one_of(st.none(), st.integers(0, 9))
MESSAGE = st.builds(
    Telemetry,
    status=st.sampled_from([None, "online", "error"]),
    telemetries=st.one_of(
        st.dictionaries(KEYS, VALUES, max_size=3),
        st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.integers(0, 9)}),
    ),
    override=st.sampled_from([False, False, False, True]),
)


class Table:
    """The row of one device, written and read as the flusher does."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.row: dict[str, Any] | None = None
        self.limits = limits
        self.wholes = 0
        self.same = 0

    def flush(self, batch: list[tuple[int, Telemetry]]) -> StoredState:
        """Merge a batch, reading the settled part only where it is needed."""
        stored = self.read()
        if not stored.is_whole and any(stored.needs_whole(message, full=False) for _, message in batch):
            self._complete(stored)
        for at, message in batch:
            self._merge(stored, message, datetime.fromtimestamp(at, UTC))
        if stored.is_swollen():
            self._complete(stored)
        telemetries, times = stored.parts()
        settled = stored.settled or tuple((self.row or {}).get(name) for name in SETTLED)
        self.row = {
            "device_id": UUID(int=0), "status": stored.status, "telemetries": msgspec.json.decode(telemetries),
            "times": msgspec.json.decode(times), "state_at": stored.latest, "floor_at": stored.floor,
            "offline": False, "rule_states": None,
            **dict(zip(SETTLED, map(plain, settled), strict=True)),
        }  # fmt: skip
        return stored

    def _merge(self, stored: StoredState, message: Telemetry, at: datetime) -> None:
        encoded = msgspec.json.encode(message.telemetries)
        if stored.merge_same(message, at, encoded):
            self.same += 1
        else:
            stored.merge(message, at)

    def read(self) -> StoredState:
        """The state as it is before a batch."""
        return StoredState(None if self.row is None else [self.row[name] for name in READ], self.limits)

    def _complete(self, stored: StoredState) -> None:
        self.wholes += 1
        stored.complete(self.row)

    def shown(self) -> dict[str, Any]:
        """As the edge reads it."""
        assert self.row is not None
        settled, times = self.row["settled"] or {}, self.row["times"]
        return {key: value for key, value in settled.items() if key not in times} | self.row["telemetries"]


READ = ("device_id", "status", "telemetries", "times", "state_at", "floor_at", "offline", "settled_at", "rule_states")
SETTLED = ("settled", "settled_times", "settled_at")


def plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


@settings(max_examples=50)
@given(st.lists(st.lists(MESSAGE, max_size=3), max_size=6), st.randoms(), st.sampled_from([2, 20, 60]))
def test_a_state_in_two_parts_is_the_state_in_one(batches: list[list[Telemetry]], random: Any, recent: int) -> None:
    """In any order of time, with parts that settle often, seldom or never."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(states, "RECENT_BYTES_MAX", recent)
        table, whole = Table(), State(keys_max=LIMITS.keys)
        times = iter(random.sample(range(1, 100), 99))
        for messages in batches:
            timed = [(next(times), message) for message in messages]
            table.flush(timed)
            for at, message in timed:
                whole.merge(message, datetime.fromtimestamp(at, UTC))
            assert table.row is not None
            assert (table.row["status"], table.shown()) == (whole.status, whole.telemetries)


def test_messages_of_the_keys_that_a_device_always_sends_are_the_state_as_they_are() -> None:
    """Others are merged: with other keys, none, a removal, no status, of before, or that replace what is there."""
    table = Table(Limits(2, 65_536))
    usual = Telemetry(status="online", telemetries={"a": 1, "b": 2})
    table.flush([(10, usual), (20, usual)])
    table.flush([(30, Telemetry(status="error", telemetries={"b": 3, "a": 4}))])
    table.flush([(25, usual)])
    assert (table.same, table.shown()) == (2, {"a": 4, "b": 3})
    for at, message in (
        (40, Telemetry(status="online", telemetries={"a": 5})),
        (30, usual),
        (60, Telemetry(status="online", telemetries={"a": 5, "b": None})),
        (70, Telemetry(telemetries={"a": 5, "b": 6})),
        (80, Telemetry(status="online", telemetries={"a": 5, "b": 6}, override=True)),
        (90, usual),
    ):
        table.flush([(at, message)])
        assert table.same == 2
    narrow = Table(Limits(2, 65_536))
    narrow.flush([(10, usual)])
    narrow.limits = Limits(1, 65_536)
    assert narrow.flush([(20, usual)]).left_out == 1


def test_a_message_of_known_keys_leaves_the_settled_part_unread() -> None:
    """Neither read nor written: the cost of a merge follows the message, not the state."""
    table = Table(Limits(1_000, 65_536))
    table.flush([(1, Telemetry(telemetries={f"key {n}": n for n in range(1_000)}))])
    table.flush([(2, Telemetry(telemetries={"key 7": "x"}))])
    assert table.wholes == 1
    for at in range(3, 50):
        stored = table.flush([(at, Telemetry(telemetries={"key 7": at}))])
        assert stored.settled is None
    assert table.wholes == 1
    assert table.row is not None
    assert table.row["telemetries"] == {"key 7": 49}
    assert table.shown() == {f"key {n}": n for n in range(1_000)} | {"key 7": 49}


def test_a_state_never_grows_beyond_its_limits() -> None:
    """Of keys and bytes alike, also by removals; values that are known go on being brought up to date."""
    table = Table(Limits(100, 5_000))
    left_out = 0
    for at in range(1, 200):
        told = {f"key {at} {n}": "x" * n for n in range(60)} | {"temperature": at}
        left_out += table.flush([(at, Telemetry(telemetries=told))]).left_out
        table.flush([(at, Telemetry(telemetries=dict.fromkeys([f"key {at} {n}" for n in range(0, 60, 2)])))])
        shown = table.shown()
        assert shown.get("temperature", at) == at
        assert len(shown) <= 100
        assert len(msgspec.json.encode(shown)) <= 5_000 + states.RECENT_BYTES_MAX
        assert len(msgspec.json.encode(table.row)) <= 4 * 5_000 + states.RECENT_BYTES_MAX
    assert left_out > 1_000


def test_a_limit_that_was_lowered_cuts_the_state_down() -> None:
    """With the next message that brings something new."""
    table = Table(Limits(1_000, 65_536))
    table.flush([(1, Telemetry(telemetries={f"key {n}": n for n in range(1_000)}))])
    table.limits = Limits(200, 65_536)
    table.flush([(2, Telemetry(telemetries={"one more": 1}))])
    assert table.shown() == {f"key {n}": n for n in range(200)}


def test_a_full_state_that_lost_keys_has_room_again() -> None:
    """A removal looks at the whole of it."""
    table = Table()
    stored = table.flush([(1, Telemetry(telemetries={f"key {n}": n for n in range(120)}))])
    assert (stored.left_out, stored.has_room()) == (20, False)
    removal = Telemetry(telemetries={f"key {n}": None for n in range(50)})
    assert table.read().needs_whole(removal, full=True)
    assert table.flush([(2, removal)]).has_room()
