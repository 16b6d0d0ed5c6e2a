"""When a list is held instead of applied, and what lets it go.

Whole lists lost through an empty or cut answer are the disaster of this field. So a list that would take many devices
away waits until a person has seen it, or until lists some time apart have agreed. One that would take all of them, and
an empty one, wait for a person however few there are. What a person agreed to is that list, and no other.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from workers.importer.comparing import Changes

SHARE_MAX = 0.15
COUNT_MIN = 10
AGREEING_RUNS = 3
AGREEING_APART = timedelta(minutes=10)
"""Lists that are asked for within moments of each other are the same failure seen again."""


class Digests(NamedTuple):
    """Digests of a list: of the devices that it would exclude, and of all its changes."""

    gone: str
    whole: str


class HeldList(NamedTuple):
    """The list that is held so far, as the connector's row says."""

    digest: str | None
    in_a_row: int
    at: datetime | None
    confirmed: str | None
    rejected: str | None
    """What a person refused to have taken away."""

    def agreeing(self, digests: Digests, now: datetime) -> tuple[int, datetime]:
        """How many lists agree with this one among them, and when the last of them was counted."""
        if self.digest != digests.gone or self.at is None or not self.in_a_row:
            return 1, now
        return (self.in_a_row + 1, now) if now - self.at >= AGREEING_APART else (self.in_a_row, self.at)


def needs_person(changes: Changes) -> bool:
    """Whether nobody but a person may let it go."""
    if changes.found == 0 and changes.active > 0:
        return True
    return 0 < changes.active == changes.excluded + changes.reenrolled_active


def why(changes: Changes, skipped: int) -> str | None:
    """Why a list must be held, in words; None for one that need not be."""
    taken = changes.excluded + changes.reenrolled_active
    if needs_person(changes) or (taken >= COUNT_MIN and taken > SHARE_MAX * changes.active):
        again = f", of which {changes.reenrolled_active} come under a new id" if changes.reenrolled_active else ""
        return (
            f"The vendor's list has {changes.found} devices and would exclude {taken} of {changes.active}{again}:"
            " confirm it, or see that the vendor lists them again"
        )
    if skipped and (not changes.found or (skipped >= COUNT_MIN and skipped > SHARE_MAX * (changes.found + skipped))):
        return (
            f"{skipped} of the {changes.found + skipped} items of the vendor's list cannot be imported (the run says"
            " why): confirm that the others are to be, or mend the list"
        )
    return None


def permitted(held: HeldList, changes: Changes, digests: Digests, now: datetime) -> bool:
    """Whether a list that must be held may be applied all the same."""
    if held.confirmed is not None and held.confirmed == digests.whole:
        return True
    if held.rejected is not None and held.rejected == digests.gone:
        return False
    return not needs_person(changes) and held.agreeing(digests, now)[0] >= AGREEING_RUNS
