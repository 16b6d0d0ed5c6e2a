"""How many requests an endpoint is sent at once, from what it answered."""

from workers.dispatcher.governor import BACKLOG_LANES_MIN, LANES_MIN, Governor
from workers.dispatcher.pace import PROBE_CAP_S, RUN_OF_FAILURES, START_LANES, Pace


def half() -> float:
    return 0.5


def succeed(pace: Pace, count: int, latency_s: float = 0.01, now: float = 1.0) -> None:
    for _ in range(count):
        pace.succeeded(now, now, latency_s, pace.lanes)


def test_an_endpoint_that_answers_quickly_is_sent_more_and_more_up_to_the_limit() -> None:
    """Twice as many each round."""
    pace = Pace(32)
    assert pace.lanes == START_LANES
    succeed(pace, START_LANES)
    assert pace.lanes == 2 * START_LANES
    succeed(pace, 100)
    assert pace.lanes == 32


def test_overload_halves_the_lanes_once_a_round() -> None:
    """Requests that began before the cut tell nothing new; afterwards growth is a lane a round."""
    pace = Pace(32)
    succeed(pace, 100)
    pace.failed(10.0, 9.0, 503, None, half)
    pace.failed(10.1, 9.5, None, None, half)
    assert pace.lanes == 16
    succeed(pace, 1)
    pace.failed(11.0, 10.5, 429, None, half)
    assert pace.lanes == 8
    succeed(pace, 7)
    assert pace.lanes == 8
    succeed(pace, 1)
    assert pace.lanes == 9


def test_lanes_stop_growing_where_requests_wait_for_one_another() -> None:
    """A receiver that takes one at a time: its latency is as many times the least as requests are under way."""
    pace = Pace(32)
    for now in range(200):
        pace.succeeded(float(now), float(now), 0.4 * pace.lanes, pace.lanes)
        assert 0.4 * pace.lanes < 5
    assert 2 <= pace.lanes <= 5


def test_latency_is_judged_only_where_the_lanes_are_used() -> None:
    """An endpoint that is sent little is not sent more for it, nor less."""
    pace = Pace(32)
    succeed(pace, 100)
    for now in range(100):
        pace.succeeded(float(now), float(now), 3.0, 1)
    assert pace.lanes == 32


def test_rejections_say_nothing_about_load_and_show_life() -> None:
    """An endpoint that rejects some events, or all, gets the others at full speed; retries get a part of it."""
    pace = Pace(32)
    succeed(pace, 100)
    for status in range(100):
        pace.rejected(1.0, 1.0, 0.01, 32, retried=status % 2 == 0)
    assert pace.lanes == 32
    assert pace.retry_lanes == 8
    pace.succeeded(1.0, 1.0, 0.01, 32, retried=True)
    assert pace.retry_lanes == 32
    for _ in range(RUN_OF_FAILURES):
        pace.failed(1.0, 1.0, None, None, half)
    assert pace.probing
    pace.rejected(2.0, 2.0, 0.01, 1)
    assert not pace.probing
    assert not pace.paused(2.0)


def test_a_run_of_failures_leads_to_probes_ever_further_apart() -> None:
    """One at a time, at most a minute apart; the failures of requests from before do not count as probes."""
    pace = Pace(32)
    for _ in range(RUN_OF_FAILURES):
        assert not pace.probing
        pace.failed(100.0, 90.0, None, None, half)
    assert pace.probing
    assert pace.lanes == 1
    assert pace.resume_at == 101.5
    pace.failed(100.1, 90.0, None, None, half)
    assert pace.resume_at == 101.5
    gaps = []
    for _ in range(10):
        now = pace.resume_at
        pace.failed(now, now, 503, None, half)
        gaps.append(pace.resume_at - now)
    assert gaps[:4] == [3, 6, 12, 24]
    assert gaps[-1] == 0.75 * PROBE_CAP_S


def test_when_a_dead_endpoint_answers_its_rate_rises_again() -> None:
    """From two lanes up, without waiting any longer."""
    pace = Pace(32)
    for n in range(50):
        pace.failed(float(n), float(n), None, None, half)
    pace.succeeded(50.0, 50.0, 0.01, 1)
    assert not pace.probing
    assert not pace.paused(50.0)
    assert pace.lanes == 2
    succeed(pace, 14, now=50.0)
    assert pace.lanes == 16


def test_an_endpoint_that_was_dead_for_the_previous_owner_is_probed_first() -> None:
    """The run of failures is stored with the connector."""
    assert Pace(32, RUN_OF_FAILURES).lanes == 1
    assert not Pace(32, RUN_OF_FAILURES).paused(0.0)


def test_retry_after_of_429_and_503_holds_for_the_whole_connector() -> None:
    """That of another status holds for its event alone."""
    pace = Pace(32)
    pace.failed(10.0, 9.0, 502, 30.0, half)
    assert not pace.paused(10.1)
    pace.failed(10.0, 9.0, 429, 30.0, half)
    assert pace.paused(39.9)
    assert not pace.paused(40.0)


def test_lanes_are_capped_only_while_this_process_uses_all_of_its_core() -> None:
    """Long turns on a core that others use cap nothing."""
    governor = Governor(32)
    now = 1.0
    for n in range(100):
        governor.adjust(0.2 * n, now + n, 0.05)
    assert governor.lanes == 32
    for n in range(100, 200):
        governor.adjust(0.95 * n, now + n, 0.05)
    assert governor.lanes == LANES_MIN
    for n in range(200, 240):
        governor.adjust(95.0 * n / 100, now + n, 0.0)
    assert governor.lanes == 32


def test_a_backlog_leaves_a_third_of_the_core_while_others_are_live() -> None:
    """And takes all of it when nobody else has anything to send."""
    governor = Governor(32)
    for n in range(100):
        governor.live_at = float(n)
        governor.adjust(0.8 * n, float(n), 0.0)
    assert (governor.lanes, governor.backlog_lanes) == (32, BACKLOG_LANES_MIN)
    for n in range(100, 200):
        governor.adjust(0.8 * n, float(n), 0.0)
    assert governor.backlog_lanes == 32
