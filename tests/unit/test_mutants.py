"""The list of lines that `make mutants` breaks does not rot."""

from pathlib import Path

import pytest

from tests.mutants.lines import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.promise)
def test_a_line_that_keeps_a_promise_is_there_once_and_has_its_test(mutant: Mutant, repository: Path) -> None:
    """As it is written in the list: whoever changes the line changes the list, too."""
    assert (repository / mutant.file).read_text().count(mutant.line) == 1
    assert mutant.broken != mutant.line
    file, _, name = mutant.test.partition("::")
    assert f"def {name}" in (repository / file).read_text()


def test_each_promise_is_named_once() -> None:
    """By its name one is chosen."""
    promises = [mutant.promise for mutant in MUTANTS]
    assert sorted(set(promises)) == sorted(promises)
