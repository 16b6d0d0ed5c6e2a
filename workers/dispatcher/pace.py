"""How many requests a connector may have under way now: what its endpoint has shown it can take.

    slow start ──success──▶ one more lane each ──overload──▶ half the lanes ──success──▶ a lane a round
        ▲                                                                                      │
        └──success── probing: one request now and then ◀── a run of failures of any kind ──────┘

Overload is a timeout, a broken or refused connection, 429, 502, 503 or 504. Another status says nothing about load: an
endpoint that rejects some events is sent the others at full speed.
"""

from workers.dispatcher.retry import Random, ceiling_s

START_LANES = 8
RUN_OF_FAILURES = 8
"""So many failures in a row, with no success in between, and the endpoint is taken for dead."""
PROBE_CAP_S = 60.0
"""A dead endpoint is probed at least this often, so that it is found soon after it came back."""
OVERLOAD = frozenset((429, 502, 503, 504))


class Pace:
    """The limit of one connector. Times are monotonic seconds."""

    __slots__ = (
        "_allowed",
        "_decreased_at",
        "_max",
        "_threshold",
        "failures",
        "lanes",
        "probes",
        "proven",
        "resume_at",
    )

    def __init__(self, lanes_max: int, failures: int = 0) -> None:
        self._max = float(lanes_max)
        self._allowed = min(float(START_LANES), self._max)
        self._threshold = self._max
        self._decreased_at = 0.0
        self.failures = failures
        self.probes = 0
        self.resume_at = 0.0
        self.proven = False
        """Whether the last that was heard of the endpoint was a success."""
        self.lanes = 1 if self.probing else int(self._allowed)
        """The number of requests that may be under way."""

    def __repr__(self) -> str:
        return f"<Pace lanes={self.lanes} failures={self.failures}>"

    @property
    def probing(self) -> bool:
        """Whether the endpoint is taken for dead."""
        return self.failures >= RUN_OF_FAILURES

    def paused(self, now: float) -> bool:
        """Whether no request may begin now."""
        return now < self.resume_at

    def succeeded(self) -> None:
        """A request was answered with 2xx."""
        self.proven = True
        if self.failures:
            if self.probing:
                self._allowed, self._threshold = 1.0, self._max
                self.resume_at = 0.0
            self.failures = self.probes = 0
        elif self._allowed == self._max:
            return
        grown = self._allowed + (1.0 if self._allowed < self._threshold else 1.0 / self._allowed)
        self._allowed = min(self._max, grown)
        self.lanes = int(self._allowed)

    def failed(self, now: float, began: float, status: int | None, retry_after_s: float | None, random: Random) -> None:
        """A request that began at `began` was not; `status` is None when there was no answer at all."""
        was_probing = self.probing
        self.failures += 1
        self.proven = False
        if retry_after_s and (status == 429 or status == 503):
            self.resume_at = max(self.resume_at, now + retry_after_s)
        if self.probing:
            self.lanes = 1
            # What began before the endpoint was taken for dead says nothing new.
            if not was_probing or began >= self.resume_at:
                self.probes += 1
                wait_s = min(PROBE_CAP_S, ceiling_s(self.probes)) * (0.5 + random() / 2)
                self.resume_at = max(self.resume_at, now + wait_s)
        elif (status is None or status in OVERLOAD) and began >= self._decreased_at:
            self._threshold = max(2.0, self._allowed / 2)
            self._allowed = max(1.0, self._allowed / 2)
            self.lanes = int(self._allowed)
            self._decreased_at = now
