"""Buckets of values over time, put together from wherever their messages lie."""

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple


class Bucket(NamedTuple):
    """Of one key: which bucket, how many values, the sum of their times in µs from the begin on, and what they are."""

    key: str
    number: int
    values: int
    times_us: int
    least: float
    total: float
    greatest: float


def together(parts: Iterable[Bucket]) -> Iterator[Bucket]:
    """Each bucket once, in order: one may hold messages of both tiers, or of several files."""
    for (key, number), same in groupby(sorted(parts), key=lambda one: one[:2]):
        _, _, counts, times_us, least, totals, greatest = zip(*same, strict=True)
        yield Bucket(key, number, sum(counts), sum(times_us), min(least), math.fsum(totals), max(greatest))
