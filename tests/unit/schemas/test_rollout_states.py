"""What can be done with a rollout in which state, and who comes first in it."""

from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

import pytest

from schemas import ids, rollouts
from schemas.rollouts import NotPossible, RolloutAction, RolloutStatus, after

NOW = datetime(2026, 5, 4, tzinfo=UTC)
STATUSES: tuple[RolloutStatus, ...] = get_args(RolloutStatus)
POSSIBLE: dict[RolloutAction, dict[RolloutStatus, RolloutStatus]] = {
    "start": {"draft": "running", "waiting_for_approval": "waiting_for_approval"},
    "approve": {"waiting_for_approval": "running"},
    "pause": {"scheduled": "paused", "running": "paused", "paused": "paused"},
    "resume": {"paused": "running"},
    "abort": {status: "aborted" for status in STATUSES if status != "finished"},
    "next_wave": {"running": "running"},
}
DONE: set[tuple[RolloutAction, RolloutStatus]] = {
    (action, status) for action in ("start", "approve", "resume") for status in ("scheduled", "running")
}
"""Somebody else did it a moment ago."""


@pytest.mark.parametrize("action", get_args(RolloutAction))
@pytest.mark.parametrize("status", STATUSES)
def test_each_action_in_each_state(action: RolloutAction, status: RolloutStatus) -> None:
    """Possible, done already, or refused; nothing that has ended begins again."""
    expected = status if (action, status) in DONE else POSSIBLE[action].get(status)
    if expected is None:
        with pytest.raises(NotPossible):
            after(action, status, needs_approval=False, starts_at=None, now=NOW)
    else:
        assert after(action, status, needs_approval=False, starts_at=None, now=NOW) == expected


def test_a_rollout_waits_for_its_approval_and_for_its_time() -> None:
    """In this order; a time that has come is none."""
    later, earlier = NOW + timedelta(hours=1), NOW - timedelta(hours=1)
    assert after("start", "draft", needs_approval=True, starts_at=later, now=NOW) == "waiting_for_approval"
    assert after("approve", "waiting_for_approval", needs_approval=True, starts_at=later, now=NOW) == "scheduled"
    assert after("start", "draft", needs_approval=False, starts_at=earlier, now=NOW) == "running"
    assert after("resume", "paused", needs_approval=False, starts_at=later, now=NOW) == "scheduled"


def test_a_share_that_grows_takes_devices_in_and_puts_none_out() -> None:
    """From 5 % to 25 % and to all: who was in stays in, whoever counts and however often."""
    devices, rollout = [UUID(int=n) for n in range(2_000)], ids.new_id()
    within = [
        {one for one in devices if rollouts.position(rollout, one) < rollouts.positions_below(percent)}
        for percent in (5, 25, 100)
    ]
    assert within[0] < within[1] < within[2] == set(devices)
    assert (50 < len(within[0]) < 150, 400 < len(within[1]) < 600) == (True, True)


def test_positions_are_spread_evenly_and_other_ones_in_each_rollout() -> None:
    """A tenth of the devices is about a tenth, and not the same tenth every time."""
    devices = [UUID(int=n) for n in range(4_000)]
    first, second = ids.new_id(), ids.new_id()
    limit = rollouts.positions_below(10)
    tenths = [{one for one in devices if rollouts.position(rollout, one) < limit} for rollout in (first, second)]
    assert all(300 < len(tenth) < 500 for tenth in tenths)
    assert len(tenths[0] & tenths[1]) < 100
    assert (rollouts.positions_below(100), rollouts.positions_below(0)) == (rollouts.POSITIONS, 0)
