"""Who is cut off for not reading, and who is not."""

from asyncio import Transport

from prometheus_client import CollectorRegistry

from gateway.ingest.slow_readers import BYTES_TAKEN_MIN, SlowReaders
from schemas.metrics import Metrics


class FakeTransport(Transport):
    """A connection with so many bytes left to send."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.aborted = True


def readers(bytes_max: int = 1_000_000) -> SlowReaders:
    return SlowReaders(timeout_s=10, bytes_max=bytes_max, metrics=Metrics(CollectorRegistry()))


def test_a_client_that_takes_nothing_in_its_time_is_cut_off() -> None:
    """Not before; and one that takes a little all the while is not, however long it takes."""
    slow, silent = FakeTransport(10 * BYTES_TAKEN_MIN), FakeTransport(10 * BYTES_TAKEN_MIN)
    watching = readers()
    for transport in (slow, silent):
        watching.watch(transport, 0)
    watching.tick(9.9)
    assert not silent.aborted
    for now in range(10, 60, 10):
        slow.left -= BYTES_TAKEN_MIN
        watching.tick(now)
        assert (slow.aborted, silent.aborted) == (False, True)


def test_a_trickle_is_as_good_as_nothing() -> None:
    """One byte a second would hold an answer for days."""
    trickle = FakeTransport(10 * BYTES_TAKEN_MIN)
    watching = readers()
    watching.watch(trickle, 0)
    trickle.left -= BYTES_TAKEN_MIN - 1
    watching.tick(10)
    assert trickle.aborted


def test_beyond_the_budget_those_go_that_were_watched_longest() -> None:
    """As many as must; what others took meanwhile counts."""
    first, second, third = (FakeTransport(400) for _ in range(3))
    watching = readers(bytes_max=1_000)
    for transport in (first, second, third):
        watching.watch(transport, 0)
    assert [first.aborted, second.aborted, third.aborted] == [True, False, False]
    second.left = third.left = 100
    fourth = FakeTransport(800)
    watching.watch(fourth, 1)
    assert not any(one.aborted for one in (second, third, fourth))
    huge = FakeTransport(2_000)
    watching.watch(huge, 2)
    assert all(one.aborted for one in (second, third, fourth, huge))
    assert repr(watching) == "<SlowReaders 0 bytes=0>"


def test_who_has_taken_everything_is_watched_no_more() -> None:
    """And is watched anew when it falls behind again."""
    transport = FakeTransport(100)
    watching = readers()
    watching.watch(transport, 0)
    watching.forget(transport)
    watching.forget(transport)
    watching.tick(100)
    assert not transport.aborted
    watching.watch(transport, 100)
    watching.tick(109)
    assert not transport.aborted
    watching.tick(110)
    assert transport.aborted
