"""What the evidence makes of a device's part: one outcome, with its cause."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.life_cycle import CommandStatus
from schemas.rollouts import OPEN, OUTCOMES, Channel, PartState, RolloutStatus
from workers.rollouts.parts import Evidence, Part, Terms, judge, offer

NOW = datetime(2026, 5, 4, tzinfo=UTC)
TERMS = Terms(
    status="running",
    channel="command",
    downgrade=False,
    retries=1,
    timeout=timedelta(hours=1),
    grace=timedelta(minutes=10),
)
OFFERED = Part(state="offered", attempts=1, offered_at=NOW)
LAST = replace(OFFERED, attempts=2)


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def seen(**members: Any) -> Evidence:
    """Evidence of a device that has an older version."""
    return Evidence(**{"compared": -1} | members)


FETCHED = {"command": "in_progress", "delivered_at": at(1)}
DONE = {"command": "done", "delivered_at": at(1), "finished_at": at(5)}


@pytest.mark.parametrize(
    ("part", "evidence", "minutes", "state"),
    [
        (OFFERED, seen(), 1, "offered"),
        (OFFERED, seen(fetch_began_at=at(1)), 2, "downloading"),
        (OFFERED, seen(**FETCHED), 2, "downloading"),
        (OFFERED, seen(**DONE), 6, "installing"),
        # Downloaded before it was told to install: what it reports until then means nothing.
        (OFFERED, seen(command="pending", fetch_began_at=at(1), fetched_at=at(2), reported_at=at(3)), 4, "downloading"),
        (OFFERED, seen(**FETCHED, fetch_began_at=at(1), fetched_at=at(2)), 3, "installing"),
        # The target version is success, even without an answer, or with a bad one.
        (OFFERED, seen(compared=0), 1, "succeeded"),
        (OFFERED, seen(compared=0, command="failed", delivered_at=at(1)), 61, "succeeded"),
        (LAST, seen(compared=0, gone="it was deleted"), 1, "skipped"),
        # A command that is done, and the version before after the grace.
        (LAST, seen(**DONE), 14, "installing"),
        (LAST, seen(**DONE), 15, "failed"),
        (OFFERED, seen(**DONE), 15, "waiting"),
        # It fell back: it says so after it had all that it needs.
        (LAST, seen(**DONE, reported_at=at(6)), 6, "failed"),
        (LAST, seen(**DONE, reported_at=at(4)), 6, "installing"),
        (OFFERED, seen(command="failed", delivered_at=at(1)), 2, "waiting"),
        (LAST, seen(command="failed", delivered_at=at(1)), 2, "failed"),
        (OFFERED, seen(command="aborted"), 2, "cancelled"),
        (OFFERED, seen(), 60, "timed_out"),
        (OFFERED, seen(**FETCHED), 60, "timed_out"),
        (OFFERED, seen(compared=1), 1, "skipped"),
        (OFFERED, seen(superseded=True), 1, "skipped"),
        (OFFERED, seen(superseded=True, **FETCHED), 2, "downloading"),
        (OFFERED, seen(may_fetch=False), 1, "waiting"),
        (OFFERED, seen(may_fetch=False, **FETCHED), 2, "downloading"),
    ],
)
def test_what_evidence_makes_of_a_part(part: Part, evidence: Evidence, minutes: float, state: str) -> None:
    """One state for each, at that time."""
    assert judge(part, evidence, TERMS, at(minutes)).state == state


@pytest.mark.parametrize(
    ("status", "not_begun", "begun", "failed"),
    [("paused", "waiting", "downloading", "waiting"), ("aborted", "cancelled", "downloading", "failed")],
)
def test_pause_and_abort_leave_alone_who_has_begun(
    status: RolloutStatus, not_begun: str, begun: str, failed: str
) -> None:
    """Who has not is taken back, which uses up no attempt; who fails is tried again only where the rollout lives."""
    terms = replace(TERMS, status=status)
    taken_back = judge(OFFERED, seen(), terms, at(1))
    assert taken_back.state == not_begun
    assert taken_back.attempts == (0 if status == "paused" else 1)
    assert judge(OFFERED, seen(**FETCHED), terms, at(2)).state == begun
    assert judge(OFFERED, seen(command="failed", delivered_at=at(1)), terms, at(2)).state == failed


def test_a_window_that_closes_takes_no_time_away_and_gives_none() -> None:
    """The offer of the next day is the same attempt, and its time to report goes on."""
    waiting = judge(OFFERED, seen(may_fetch=False), TERMS, at(1))
    again = offer(waiting, seen(), TERMS, at(30))
    assert (again.state, again.attempts, again.offered_at) == ("offered", 1, NOW)
    assert offer(waiting, seen(), TERMS, at(60)).state == "timed_out"


def test_where_the_command_waits_for_the_window_bytes_alone_install_nothing() -> None:
    """The device has downloaded before: it installs once it is told to, and reports of before mean nothing."""
    early = seen(fetch_began_at=at(1), fetched_at=at(2), reported_at=at(3), window_changes_at=at(20), may_install=False)
    part = judge(OFFERED, early, TERMS, at(4))
    assert (part.state, part.due_at) == ("downloading", at(20))


def test_a_device_is_taken_back_only_from_a_newer_version() -> None:
    """One that has the target is up to date, one that has an older version stays there."""
    terms = replace(TERMS, downgrade=True)
    waiting = Part(state="waiting")
    states = {compared: offer(waiting, seen(compared=compared), terms, NOW).state for compared in (-1, 0, 1)}
    assert states == {-1: "skipped", 0: "skipped", 1: "offered"}


_moments = st.none() | st.integers(-10, 200).map(at)
_evidence = st.builds(
    Evidence,
    gone=st.sampled_from([None, None, None, "it was deleted"]),
    busy=st.booleans(),
    superseded=st.booleans(),
    compared=st.sampled_from([-1, -1, 0, 1]),
    meets_least=st.booleans(),
    reported_at=_moments,
    fetch_began_at=_moments,
    fetched_at=_moments,
    command=st.sampled_from([None, *get_args(CommandStatus)]),
    delivered_at=_moments,
    finished_at=_moments,
    may_fetch=st.booleans(),
    may_install=st.booleans(),
    window_changes_at=_moments,
)


@given(
    st.lists(st.tuples(_evidence, st.sampled_from(["running", "paused", "aborted", "finished"]), st.booleans())),
    st.sampled_from(get_args(Channel)),
    st.booleans(),
)
def test_a_part_ends_once_whatever_is_seen(steps: list[Any], channel: Channel, downgrade: bool) -> None:
    """An outcome stays, but for a success that a device falls back from; attempts never pass what is allowed."""
    part, now = Part(state="waiting"), NOW
    for number, (evidence, status, turn) in enumerate(steps):
        now = at(7 * number)
        if evidence.command == "done" and evidence.finished_at is None:
            evidence = replace(evidence, finished_at=now)
        terms = replace(TERMS, status=status, channel=channel, downgrade=downgrade)
        was = part
        part = (
            offer(part, evidence, terms, now)
            if turn and was.state == "waiting" and status == "running"
            else judge(part, evidence, terms, now)
        )
        assert part.state in get_args(PartState)
        assert 0 <= part.attempts <= TERMS.retries + 1
        if was.state in OUTCOMES - {"succeeded"}:
            assert part.state == was.state
        if part.state in OPEN:
            assert part.offered_at is not None
            assert part.due_at is not None
        else:
            assert part.due_at is None
        if was.state not in ("waiting", *OPEN):
            assert part.state in ("waiting", "failed", was.state)
