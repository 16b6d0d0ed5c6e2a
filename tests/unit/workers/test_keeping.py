"""How long stored entries stay in the stream."""

from workers.flusher.keeping import Keeping
from workers.flusher.messages import Batch


def flushed(offset: str, size: int = 10, shard: int = 0) -> Batch:
    """What one flush read of one shard."""
    return Batch([], [], {shard: offset}, {shard: 1}, {shard: size}, {})


def test_without_keeping_what_was_stored_goes_at_once() -> None:
    """The offset of the flush is where the stream is trimmed."""
    keeping = Keeping(0, 100)
    keeping.add(flushed("1-0"), 5.0)
    assert keeping.expired(5.0) == {0: "1-0"}
    assert keeping.entries(0) == 0


def test_entries_stay_for_their_time() -> None:
    """Each flush for itself, in each shard."""
    keeping = Keeping(10, 100)
    keeping.add(flushed("1-0"), 0.0)
    keeping.add(flushed("2-0"), 6.0)
    keeping.add(flushed("3-0", shard=1), 6.0)
    assert keeping.expired(9.9) == {}
    assert keeping.expired(10.0) == {0: "1-0"}
    assert (keeping.entries(0), keeping.entries(1)) == (1, 1)
    assert keeping.expired(16.0) == {0: "2-0", 1: "3-0"}


def test_no_shard_keeps_more_than_its_bytes() -> None:
    """The oldest go first, whatever their time."""
    keeping = Keeping(10, 25)
    for n in range(1, 4):
        keeping.add(flushed(f"{n}-0"), 0.0)
    keeping.add(flushed("9-0", size=20, shard=1), 0.0)
    assert keeping.expired(0.0) == {0: "1-0"}
    assert (keeping.entries(0), keeping.entries(1)) == (2, 1)


def test_a_shard_that_was_given_back_is_forgotten() -> None:
    """Its next owner keeps what it stores itself."""
    keeping = Keeping(10, 100)
    keeping.add(flushed("1-0"), 0.0)
    keeping.forget(0)
    assert keeping.expired(100.0) == {}
