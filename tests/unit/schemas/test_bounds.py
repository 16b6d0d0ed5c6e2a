"""What people may set has the same bounds in the code and in the schema."""

import re

import msgspec
import pytest

from schemas import bounds
from schemas.bounds import Bounds
from schemas.postgres import MIGRATIONS
from schemas.settings import Shared

COLUMNS = {
    "offline_threshold_s": bounds.OFFLINE_THRESHOLD_S,
    "rate_limit": bounds.RATE_LIMIT,
    "timeout_s": bounds.COMMAND_TIMEOUT_S,
    "retry_window_s": bounds.RETRY_WINDOW_S,
    "report_timeout_s": bounds.ROLLOUT_TIMEOUT_S,
    "grace_s": bounds.ROLLOUT_GRACE_S,
    "soak_s": bounds.ROLLOUT_SOAK_S,
    "retries": bounds.ROLLOUT_RETRIES,
}
LIMITS_OF_MODELS = {"state_keys_max": bounds.STATE_KEYS, "state_bytes_max": bounds.STATE_BYTES}
"""Their defaults are settings."""


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_is_checked_by_the_bounds_of_the_code(column: str) -> None:
    """Default, least and most as its table was made."""
    schema = "\n".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    line = re.compile(
        rf"^\s+{column}\s+integer\s+NOT NULL DEFAULT (\d+)\s+CHECK \({column} BETWEEN (\d+) AND (\d+)\)", re.M
    )
    [(default, least, most)] = line.findall(schema)
    assert Bounds(int(least), int(default), int(most)) == COLUMNS[column]


def test_the_limit_of_requests_at_once_is_checked_by_the_bounds_of_the_code() -> None:
    """Least and most as the column was added; none is as many as there may be."""
    schema = "\n".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    [(least, most)] = re.findall(r"in_flight_max integer CHECK \(in_flight_max BETWEEN (\d+) AND (\d+)\)", schema)
    assert Bounds(int(least), int(most), int(most)) == bounds.IN_FLIGHT


@pytest.mark.parametrize("column", LIMITS_OF_MODELS)
def test_a_limit_of_models_is_checked_by_the_bounds_of_the_code(column: str) -> None:
    """Least and most as the column was added, the default as that of the setting."""
    schema = "\n".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    line = re.compile(rf"^\s+ADD COLUMN {column}\s+integer CHECK \({column} BETWEEN (\d+) AND (\d+)\)", re.M)
    [(least, most)] = line.findall(schema)
    [default] = [field.default for field in msgspec.structs.fields(Shared) if field.name == column]
    assert Bounds(int(least), default, int(most)) == LIMITS_OF_MODELS[column]


def test_all_bounds_are_compared() -> None:
    """A new one has a column too."""
    assert {id(one) for one in vars(bounds).values() if isinstance(one, Bounds)} == {
        id(one) for one in (*(COLUMNS | LIMITS_OF_MODELS).values(), bounds.IN_FLIGHT)
    }
