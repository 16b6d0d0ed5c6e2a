"""How several processes share the tests."""

import itertools

from tests.scheduling import SPREAD_OVER, TOGETHER, WAITING, spread, unit_of

WORKING = [f"tests/unit/test_{number}.py" for number in range(100)]


def test_a_folder_that_shares_a_stack_is_run_by_one_process() -> None:
    """Else each process would start that stack; a file is a unit elsewhere."""
    assert {unit_of(f"{folder}test_{n}.py::test_a") for folder in TOGETHER for n in range(3)} == set(TOGETHER)
    assert unit_of("tests/unit/test_a.py::TestOne::test_a[b::c]") == "tests/unit/test_a.py"


def test_stacks_begin_and_those_that_wait_lie_between_those_that_work() -> None:
    """Evenly, and none of them at the end, where nobody would work meanwhile."""
    waiting = [f"{folder}test_{number}.py" for folder in WAITING for number in range(10)]
    order = spread([*WORKING, *waiting, *TOGETHER])
    assert order[: len(TOGETHER)] == list(TOGETHER)
    places = [place for place, name in enumerate(order) if name in waiting]
    assert {b - a for a, b in itertools.pairwise(places)} == {1 + int(SPREAD_OVER * 100 / len(waiting))}
    assert places[-1] < 0.9 * len(order)


def test_nothing_is_lost_or_run_twice() -> None:
    """Whatever part of the tests is asked for."""
    for names in ([], WORKING, [f"{WAITING[0]}a.py"], [*WORKING[:2], *(f"{WAITING[0]}{n}.py" for n in range(9))]):
        assert sorted(spread(names)) == sorted(names)
