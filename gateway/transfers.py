"""How many files go in or out of an edge at once: all together, and of one caller.

A transfer may take hours and holds a connection, a thread now and then and some hundred kilobytes. So there are only so
many, and who comes too many is asked to come back, in telemetry's words: 503 with `Retry-After`. Nobody waits in line,
for a line would be of connections as well.
"""

from collections import Counter
from collections.abc import Callable
from uuid import UUID

from gateway.refusals import Unavailable, retry_after_s
from schemas.metrics import Metrics

BUSY = "Too many transfers are under way, try again"
OWN_BUSY = "Too many transfers of yours are under way, try again"


class Transfers:
    """Transfers of one direction in one edge."""

    def __init__(self, name: str, most: int, most_of_one: int, metrics: Metrics) -> None:
        self._name = name
        self._most = most
        self._most_of_one = most_of_one
        self._metrics = metrics
        self._callers: Counter[UUID] = Counter()

    def __repr__(self) -> str:
        return f"<Transfers {self._name} {self._callers.total()} callers={len(self._callers)}>"

    def begin(self, caller: UUID) -> Callable[[], None]:
        """Take a place; returns what gives it back, once. Raises Unavailable."""
        if self._callers[caller] >= self._most_of_one:
            self._refuse(OWN_BUSY)
        if self._callers.total() >= self._most:
            self._refuse(BUSY)
        self._callers[caller] += 1
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._callers[caller] -= 1
                if not self._callers[caller]:
                    del self._callers[caller]

        return end

    def _refuse(self, text: str) -> None:
        self._metrics.limited.labels(self._name).inc()
        raise Unavailable(text, retry_after_s=retry_after_s())
