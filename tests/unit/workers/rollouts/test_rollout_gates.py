"""A gate fires on what devices of its wave reported, once, and a wave passes when all of them are through."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workers.rollouts.waves import Count, Gate, Wave, fires, next_status

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def wave(**members: Any) -> Wave:
    usual = {"number": 1, "status": "open", "gate": Gate(min_reported=4, failed_percent=50), "soak": timedelta(0)}
    return Wave(**usual | members)


def counts(succeeded: int = 0, failed: int = 0, **others: Any) -> Any:
    return {"succeeded": Count(succeeded, succeeded), "failed": Count(failed, failed), **others}


@pytest.mark.parametrize(
    ("found", "is_asked"),
    [
        (counts(0, 3), False),
        (counts(2, 2), True),
        (counts(3, 2), False),
        (counts(1, 2, timed_out=Count(1, 1)), True),
        (counts(1, 2, timed_out=Count(5, 0)), False),
        (counts(1, 2, skipped=Count(9, 0), cancelled=Count(9, 0), installing=Count(9, 9)), False),
    ],
)
def test_a_percentage_counts_from_so_many_reports_on(found: Any, is_asked: bool) -> None:
    """Who never began has reported nothing; who began and was not heard of again has failed."""
    assert (fires(wave(), found) == "pause") is is_asked


def test_a_count_counts_at_once() -> None:
    """However few have reported."""
    gate = Gate(min_reported=100, failed_count=2, on_failure="abort")
    assert fires(wave(gate=gate), counts(0, 1)) is None
    assert fires(wave(gate=gate), counts(50, 2)) == "abort"


@pytest.mark.parametrize("members", [{"fired": True}, {"status": "passed"}, {"status": "pending"}])
def test_a_gate_that_has_fired_or_is_not_of_a_wave_under_way_is_quiet(members: Any) -> None:
    """Whatever else fails."""
    assert fires(wave(**members), counts(0, 100)) is None


def test_without_a_threshold_nothing_fires_and_without_reports_neither() -> None:
    """Not even where all have failed; nor at a percentage of nothing."""
    assert fires(wave(gate=Gate()), counts(0, 100)) is None
    assert fires(wave(gate=Gate(failed_percent=1)), counts(0, 0)) is None


def test_a_wave_soaks_when_all_are_through_and_then_passes() -> None:
    """Not while devices work or may still come; what comes back begins it anew; a person is waited for if need be."""
    soaking = wave(status="soaking", soak=timedelta(hours=1), soaking_since=NOW)
    asking = wave(status="soaking", gate=Gate(on_success="wait"), soaking_since=NOW)
    for was, found, filled, later_s, expected in (
        (wave(), counts(1, 0, installing=Count(1, 1)), True, 0, "open"),
        (wave(), counts(1, 0, waiting=Count(1, 0)), True, 0, "open"),
        (wave(), counts(1, 0), False, 0, "open"),
        (wave(), counts(1, 0), True, 0, "soaking"),
        (wave(), {}, True, 0, "soaking"),
        (soaking, counts(1, 0), True, 3_599, "soaking"),
        (soaking, counts(1, 0), True, 3_600, "passed"),
        (soaking, counts(1, 0, waiting=Count(1, 0)), True, 3_600, "open"),
        (asking, counts(1, 0), True, 0, "waiting"),
        (wave(status="waiting"), counts(1, 0), True, 10**6, "waiting"),
        (wave(status="passed"), counts(1, 0, waiting=Count(1, 0)), True, 0, "passed"),
    ):
        assert next_status(was, found, filled=filled, now=NOW + timedelta(seconds=later_s)) == expected
