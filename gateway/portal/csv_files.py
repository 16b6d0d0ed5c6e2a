"""Lists as files for spreadsheets, none of which takes what a device or a person wrote for a formula."""

import csv
import io
from collections.abc import Iterable
from typing import Any

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def line(cells: Iterable[Any]) -> str:
    """One line of CSV; None is an empty cell."""
    written = io.StringIO()
    csv.writer(written).writerow(map(_cell, cells))
    return written.getvalue()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULAS) else text
