"""Results for people, and with `--json` for programs."""

import sys
from typing import Any

import msgspec


def show(result: Any, *, as_json: bool) -> None:
    """Print one thing as lines of `name value`, several as a table."""
    plain = msgspec.to_builtins(result)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(plain)).decode())
    elif isinstance(plain, dict):
        width = max(map(len, plain))
        for name, value in plain.items():
            print(f"{name:{width}}  {_cell(value)}")
        for shown in ("key", "link"):
            if shown in plain:
                print(f"The {shown} is shown this once: keep it.", file=sys.stderr)
    elif plain:
        rows = [[*plain[0]], *([_cell(value) for value in row.values()] for row in plain)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    else:
        print("None yet.")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{one['name']}:{one['type']}{':required' * one['required']}" for one in value)
    return "-" if value is None or value == "" else str(value)
