"""What a device tells besides its values: what happened, and what is wrong with it."""

from collections import deque
from typing import Any

from msgspec import Struct, field

EVENTS_MAX = 100
"""Events that wait to be told; the oldest go when there are more."""
STARTED = {"name": "started", "category": "life"}


class Incident(Struct):
    """The answer to an incident: which one it is, None while none may be opened."""

    incident_id: str | None


class Happenings(Struct):
    """Filled by whoever measures, emptied by the device as it tells them.

    `wrong` has a title for each issue as long as it lasts, `open` the incidents that were opened of them. What a device
    opened before it was started is over: it closes all of that when it begins.
    """

    events: deque[dict[str, Any]] = field(default_factory=lambda: deque([STARTED], EVENTS_MAX))
    wrong: dict[str, str] = {}
    open: dict[str, str | None] = {}
    began: bool = False
