"""A daily window is local time: it opens and closes by the clocks of its place, also on the days they are changed."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.rollouts.windows import Window

NIGHT = Window(time(22), time(4))
EARLY = Window(time(2), time(4))


@pytest.mark.parametrize(
    ("window", "zone", "moment", "is_open"),
    [
        (EARLY, "UTC", "2026-05-04T01:59:59", False),
        (EARLY, "UTC", "2026-05-04T02:00:00", True),
        (EARLY, "UTC", "2026-05-04T04:00:00", False),
        (EARLY, "Asia/Tokyo", "2026-05-03T17:00:00", True),
        (EARLY, "America/Los_Angeles", "2026-05-04T10:30:00", True),
        (NIGHT, "UTC", "2026-05-04T23:00:00", True),
        (NIGHT, "UTC", "2026-05-05T03:59:59", True),
        (NIGHT, "UTC", "2026-05-05T12:00:00", False),
        # In Oslo the hour from 2 to 3 does not exist on this day, and stands twice on the other.
        (EARLY, "Europe/Oslo", "2026-03-29T01:30:00", True),
        (EARLY, "Europe/Oslo", "2026-03-29T02:00:00", False),
        (EARLY, "Europe/Oslo", "2026-10-25T02:30:00", True),
    ],
)
def test_it_is_open_by_the_clock_of_its_place(window: Window, zone: str, moment: str, is_open: bool) -> None:
    """Its first moment belongs to it, its last one not."""
    assert window.is_open(datetime.fromisoformat(moment).replace(tzinfo=UTC), zone) is is_open


@given(
    st.tuples(st.times(), st.times()).filter(lambda pair: pair[0] != pair[1]),
    st.sampled_from(["UTC", "Europe/Oslo", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia", "Australia/Lord_Howe"]),
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)),
)
def test_what_changes_next_is_soon_and_is_a_change(pair: tuple[time, time], zone: str, naive: datetime) -> None:
    """Within two days, later than now, and until then it stays as it is."""
    window, now = Window(*(moment.replace(tzinfo=None, fold=0) for moment in pair)), naive.replace(tzinfo=UTC)
    change = window.next_change(now, zone)
    assert now < change <= now + timedelta(days=2)
    between = now + (change - now) / 2
    assert window.is_open(between, zone) == window.is_open(now, zone)
