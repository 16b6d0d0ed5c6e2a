"""When a failed delivery is tried again."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from workers.dispatcher.retry import CAP_S, ceiling_s, delay_s, parse_retry_after


def test_delays_double_from_two_seconds_to_ten_minutes() -> None:
    """Of such a delay a random part is waited: all of it at most, nothing at least."""
    assert [ceiling_s(failures) for failures in (1, 2, 3, 9, 10, 11, 5000)] == [2, 4, 8, 512, 600, 600, 600]
    assert delay_s(3, None, lambda: 0.0) == 0
    assert delay_s(3, None, lambda: 0.5) == 4


def test_what_the_receiver_asked_for_is_waited_at_least() -> None:
    """A longer delay of our own stays."""
    assert delay_s(1, 30.0, lambda: 0.9) == 30
    assert delay_s(9, 30.0, lambda: 0.9) == pytest.approx(460.8)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 17 ", 17),
        ("86400", CAP_S),
        ("9" * 400, CAP_S),
        (format_datetime(datetime.fromtimestamp(1_700_000_090, UTC), usegmt=True), 90),
        (format_datetime(datetime.fromtimestamp(1_600_000_000, UTC), usegmt=True), 0),
        ("Thu, 31 Dec 9999 23:59:59 GMT", CAP_S),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("", None),
        ("Thu, 99 Foo 2023 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(header: str | None, seconds: float | None) -> None:
    """Never more than the cap; what makes no sense asks for nothing."""
    assert parse_retry_after(header, 1_700_000_000) == seconds
