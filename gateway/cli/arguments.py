"""Types of command line arguments that several commands take."""

import argparse
import math
from collections.abc import Callable

SECONDS_MIN, SECONDS_MAX = 0.1, 86_400.0


def count(most: int) -> Callable[[str], int]:
    """A whole number between 1 and `most`."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number between 1 and {most}")
        return int(text)

    return parse


def seconds(text: str) -> float:
    """A time between two messages of a device."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not SECONDS_MIN <= value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"must be a number of seconds between {SECONDS_MIN} and {SECONDS_MAX:.0f}")
    return value


def base_url(text: str) -> str:
    """A URL that paths are put behind."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("must begin with http:// or https://")
    return text.rstrip("/")
