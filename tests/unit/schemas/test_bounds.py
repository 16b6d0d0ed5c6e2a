"""What people may set has the same bounds in the code and in the schema."""

import re

import pytest

from schemas import bounds
from schemas.bounds import Bounds
from schemas.postgres import MIGRATIONS

COLUMNS = {
    "offline_threshold_s": bounds.OFFLINE_THRESHOLD_S,
    "rate_limit": bounds.RATE_LIMIT,
    "timeout_s": bounds.COMMAND_TIMEOUT_S,
    "retry_window_s": bounds.RETRY_WINDOW_S,
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_is_checked_by_the_bounds_of_the_code(column: str) -> None:
    """Default, least and most as its table was made."""
    schema = "\n".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    line = re.compile(
        rf"^\s+{column}\s+integer\s+NOT NULL DEFAULT (\d+)\s+CHECK \({column} BETWEEN (\d+) AND (\d+)\)", re.M
    )
    [(default, least, most)] = line.findall(schema)
    assert Bounds(int(least), int(default), int(most)) == COLUMNS[column]


def test_all_bounds_are_compared() -> None:
    """A new one has a column too."""
    assert {id(one) for one in vars(bounds).values() if isinstance(one, Bounds)} == set(map(id, COLUMNS.values()))
