"""Which nodes are read, and which are left alone for a moment."""

import asyncio

import pytest

from schemas import placement
from schemas.placement import AWAY_S, ONE_POSTGRES, STILL_S, Placement
from schemas.postgres import PostgresAway, PostgresTimeout

PLACED = {0: "a", 1: "b", 2: "a", 3: "b"}


class Nodes:
    """What answers, and what was asked."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.away: set[str] = set()
        self.still: set[str] = set()
        self.takes_s = 0.0
        self.asked: list[list[int]] = []
        self.placement = Placement(PLACED, lambda: self.now_s)

    async def read(self, shards: list[int]) -> int:
        self.asked.append(shards)
        if self.still & {PLACED[shard] for shard in shards}:
            await asyncio.Event().wait()
        if self.away & {PLACED[shard] for shard in shards}:
            self.now_s += self.takes_s
            raise PostgresAway("the node is away")
        return sum(shards)

    def read_all(self, *, alone: bool = False) -> tuple[list[int], set[int]]:
        self.asked = []
        return asyncio.run(self.placement.read(list(PLACED), self.read, alone=alone))


def test_one_postgres_is_read_at_once() -> None:
    """By one statement, whatever it may look at."""
    asked: list[list[int]] = []

    async def read(shards: list[int]) -> None:
        asked.append(shards)

    for alone in (False, True):
        asyncio.run(ONE_POSTGRES.read([0, 1, 2], read, alone=alone))
    assert asked == [[0, 1, 2], [0, 1, 2]]
    assert (ONE_POSTGRES.distributed, ONE_POSTGRES.every(), ONE_POSTGRES.names()) == (False, [None], [""])


def test_nodes_are_read_one_by_one_and_shards_where_a_statement_looks_at_one() -> None:
    """Each node answers for its own."""
    nodes = Nodes()
    assert nodes.read_all() == ([2, 4], {0, 1, 2, 3})
    assert nodes.asked == [[0, 2], [1, 3]]
    assert nodes.read_all(alone=True) == ([0, 1, 2, 3], {0, 1, 2, 3})
    assert nodes.asked == [[0], [1], [2], [3]]


def test_a_node_that_is_away_is_left_out_and_left_alone_for_a_moment() -> None:
    """Then one reader tries it; as long as it does not answer the others wait for the next."""
    nodes = Nodes()
    nodes.away = {"b"}
    assert nodes.read_all() == ([2], {0, 2})
    assert nodes.placement.away() == [1, 3]
    assert nodes.read_all() == ([2], {0, 2})
    assert nodes.asked == [[0, 2]]
    nodes.now_s = AWAY_S
    assert nodes.placement.away() == []
    assert nodes.read_all() == ([2], {0, 2})
    assert nodes.asked == [[0, 2], [1, 3]]
    nodes.away = set()
    nodes.now_s = 2 * AWAY_S
    assert nodes.read_all() == ([2, 4], {0, 1, 2, 3})
    assert nodes.read_all() == ([2, 4], {0, 1, 2, 3})


def test_a_node_that_does_not_answer_is_waited_for_once_and_then_left_alone_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connection is given up with it, so that who waited is told; all others are read the next time."""
    monkeypatch.setattr(placement, "NODE_S", 0)
    nodes = Nodes()
    nodes.still = {"b"}
    with pytest.raises(PostgresTimeout):
        nodes.read_all()
    for passed_s in (0, AWAY_S, STILL_S - 1):
        nodes.now_s = passed_s
        assert nodes.read_all() == ([2], {0, 2})
    nodes.now_s, nodes.still = STILL_S, set()
    assert nodes.read_all() == ([2, 4], {0, 1, 2, 3})


def test_a_node_to_which_connecting_takes_long_is_left_alone_for_longer() -> None:
    """As one that stands still is, whoever notices it first."""
    nodes = Nodes()
    nodes.away, nodes.takes_s = {"b"}, 5
    assert nodes.read_all() == ([2], {0, 2})
    nodes.now_s += STILL_S - 1
    assert nodes.read_all() == ([2], {0, 2})
    assert nodes.asked == [[0, 2]]


def test_when_nothing_answers_that_is_told_to_who_tried() -> None:
    """It may be the coordinator that is away."""
    nodes = Nodes()
    nodes.away = {"a", "b"}
    with pytest.raises(PostgresAway):
        nodes.read_all()
    assert nodes.read_all() == ([], set())


def test_a_node_s_shards_are_tried_once_where_they_are_read_one_by_one() -> None:
    """The first that fails speaks for the others."""
    nodes = Nodes()
    nodes.away = {"b"}
    assert nodes.read_all(alone=True) == ([0, 2], {0, 2})
    assert nodes.asked == [[0], [1], [2]]
