"""How many requests a connector may have under way now: what its endpoint has shown it can take.

    slow start ──nothing queues──▶ twice the lanes ──something queues──▶ a lane a round more or fewer
        ▲                                │ overload: half the lanes
        └──an answer── probing: one request now and then ◀── a run of attempts without an answer ──┘

Two signals move the limit. *Overload* (a timeout, a broken or refused connection, 429, a status from 500 on) halves it,
once a round. *Latency* tells how many of the requests under way wait in line at the receiver, as in TCP Vegas (Brakmo
and Peterson, 1995; for requests: the limits of Netflix's concurrency-limits): of `n` that are under way
`n × (1 - least / latency)` only queue. The limit is kept where a few do, so that the receiver never idles and none
waits until it times out, which would be a duplicate. Of each round the request that queued least counts: some receivers
take long over some events, and only where all of them wait is there a line. What is quick is not looked at. The least
latency is measured anew from time to time, with one request alone (as BBR does): receivers change.

An answer below 500 shows life, whatever its status: an endpoint that rejects some events is sent the others at full
speed, and those it rejected wait. A run of attempts without one is taken for death: no answer, or statuses from
500 on, which is what a broken endpoint says to everything, and it is to be probed, not hammered. Where it is only some
events that break it, probes find the others, since they prefer what was not tried yet.
"""

from workers.dispatcher.retry import CAP_S, Random, ceiling_s

START_LANES = 2
RUN_OF_FAILURES = 8
"""So many attempts in a row without an answer, and the endpoint is taken for dead."""
PROBE_CAP_S = 60.0
"""A dead endpoint is probed at least this often, so that it is found soon after it came back."""
QUEUED_MIN, QUEUED_MAX = 2.0, 4.0
"""Requests that may wait in line at the receiver: with fewer there are more lanes, with more fewer. Of many, a quarter
and a half: their times differ even where none waits."""
QUICK = 1 / 50
LATE = 1 / 2
"""Parts of the time that an attempt may take: answered so soon it did not queue; so late is too late."""
REMEASURED_S = 60.0
EXPLORED_ROUNDS = 64
"""Where one lane more would be too slow if the receiver took one request after another, it is tried this seldom."""
REJECTED_RUN = 8
"""After so many retries in a row that were rejected again, retries get a quarter of the lanes."""


def is_overload(status: int) -> bool:
    """Whether an answer tells of the endpoint, and not of the event that it was sent."""
    return status == 429 or status >= 500


def is_away(status: int | None) -> bool:
    """Whether nobody looked at the event: there was no answer, or one of somebody in between."""
    return status is None or 502 <= status <= 504


class Pace:
    """The limit of one connector. Times are monotonic seconds."""

    __slots__ = (
        "_allowed",
        "_decreased_at",
        "_explored_after",
        "_least_at",
        "_least_s",
        "_max",
        "_measuring",
        "_quick_s",
        "_rejected",
        "_round",
        "_rounds",
        "_sample",
        "_slow_start",
        "_timeout_s",
        "_unanswered",
        "failures",
        "lanes",
        "probes",
        "proven",
        "resume_at",
    )

    def __init__(self, lanes_max: int, failures: int = 0, *, timeout_s: float = 10.0) -> None:
        self._max = float(lanes_max)
        self._timeout_s = timeout_s
        self._allowed = min(float(START_LANES), self._max)
        self._slow_start = True
        self._decreased_at = 0.0
        self._least_s = timeout_s
        self._least_at = 0.0
        self._measuring = False
        self._round = 0
        self._quick_s = QUICK * timeout_s
        self._sample: tuple[float, float, int] | None = None
        """Of the answers of this round: how many queued beside the one that fewest did, its latency, and with how many
        it was under way."""
        self._rounds = 0
        self._explored_after = EXPLORED_ROUNDS
        self._rejected = 0
        self._unanswered = failures
        self.failures = failures
        """Since the last success, of whatever kind."""
        self.probes = 0
        self.resume_at = 0.0
        self.proven = False
        """Whether it answered with success, and has not failed to answer since."""
        self.lanes = 1 if self.probing else int(self._allowed)
        """The number of requests that may be under way."""

    def __repr__(self) -> str:
        return f"<Pace lanes={self.lanes} failures={self.failures}>"

    @property
    def probing(self) -> bool:
        """Whether the endpoint is taken for dead."""
        return self._unanswered >= RUN_OF_FAILURES

    @property
    def retry_lanes(self) -> int:
        """How many of the lanes may be used for what failed before."""
        return max(1, self.lanes // 4) if self._rejected >= REJECTED_RUN else self.lanes

    def retry_cap_s(self, status: int | None) -> float:
        """The longest pause of an event that failed so: what a dead endpoint did not look at is tried with the next
        probes, else one that is owed little would be found only after the longest pause of its events."""
        return PROBE_CAP_S if self.probing and is_away(status) else CAP_S

    def limit(self, lanes_max: int) -> None:
        """So many lanes may be under way at most, from now on."""
        self._max = float(lanes_max)
        self._allow(self._allowed)

    def paused(self, now: float) -> bool:
        """Whether no request may begin now."""
        return now < self.resume_at

    def succeeded(self, now: float, began: float, latency_s: float, beside: int, *, retried: bool = False) -> None:
        """A request was answered with 2xx; so many were under way when it began, itself included."""
        self.proven = True
        self.failures = 0
        if retried:
            self._rejected = 0
        self._answered(now, began, latency_s, beside)

    def rejected(self, now: float, began: float, latency_s: float, beside: int, *, retried: bool = False) -> None:
        """It was answered with a status that is about its event, and not about load."""
        self.failures += 1
        if retried:
            self._rejected += 1
        self._answered(now, began, latency_s, beside)

    def failed(self, now: float, began: float, status: int | None, retry_after_s: float | None, random: Random) -> None:
        """It was not answered (`status` is None), or with a status that means overload."""
        was_probing = self.probing
        self.failures += 1
        self._unanswered += 1
        self.proven = self._measuring = False
        if retry_after_s and (status == 429 or status == 503):
            self.resume_at = max(self.resume_at, now + retry_after_s)
        if self.probing:
            self.lanes = 1
            # What began before the endpoint was taken for dead says nothing new.
            if not was_probing or began >= self.resume_at:
                self.probes += 1
                wait_s = min(PROBE_CAP_S, ceiling_s(self.probes)) * (0.5 + random() / 2)
                self.resume_at = max(self.resume_at, now + wait_s)
        else:
            self._halve(now, began)

    def _answered(self, now: float, began: float, latency_s: float, beside: int) -> None:
        if self._unanswered:
            if self.probing:
                self._slow_start = True
                self._unanswered = 0
                self._allow(1.0)
                self.resume_at = 0.0
            self._unanswered = self.probes = 0
        if latency_s < self._least_s:
            self._least_s, self._least_at = latency_s, now
        if self._measuring:
            if beside == 1:
                self._least_s, self._least_at, self._measuring = latency_s, now, False
                self._allow(self._allowed)
        elif 2 * beside >= self._allowed:
            self._count(now, began, latency_s, beside)

    def _count(self, now: float, began: float, latency_s: float, beside: int) -> None:
        """One more answer of this round, with enough under way to tell something."""
        quick_s = self._quick_s
        if latency_s <= quick_s:
            queued, latency_s = 0.0, quick_s
        else:
            queued = max(0.0, beside * (1 - max(self._least_s, quick_s) / latency_s))
        least = self._sample
        if least is None or queued < least[0] or (queued == least[0] and (latency_s, beside) < least[1:]):
            self._sample = least = queued, latency_s, beside
        self._round += 1
        if self._round >= int(self._allowed):
            self._round, self._sample = 0, None
            self._end_round(now, began, *least)

    def _end_round(self, now: float, began: float, queued: float, latency_s: float, beside: int) -> None:
        least, most = max(QUEUED_MIN, beside / 4), max(QUEUED_MAX, beside / 2)
        if queued >= least:
            self._slow_start = False
        if queued >= 1.0 and now - self._least_at >= REMEASURED_S and self._allowed >= 2.0:
            self._measuring, self.lanes = True, 1
            return
        if latency_s > LATE * self._timeout_s and queued >= 0.5:
            self._halve(now, began)
        elif queued > most:
            self._allow(max(self._allowed / 2, beside - queued + (least + most) / 2))
        elif queued < least and self._allowed < self._max:
            self._grow(queued, latency_s, beside)

    def _grow(self, queued: float, latency_s: float, beside: int) -> None:
        wanted = 2 * self._allowed if self._slow_start else self._allowed + 1
        if beside < 2 or queued > beside / 4:
            # For all we know it takes one request after another: then this many would be answered in time.
            wanted = min(wanted, LATE * self._timeout_s * beside / latency_s)
            if wanted < self._allowed + 1 and self._allowed < 2.0:
                self._rounds += 1
                if self._rounds >= self._explored_after:
                    self._rounds, self._explored_after = 0, 4 * self._explored_after
                    wanted = self._allowed + 1
        elif latency_s > LATE * self._timeout_s:
            wanted = min(wanted, self._allowed + 1)
        self._allow(max(self._allowed, wanted))

    def _halve(self, now: float, began: float) -> None:
        if began >= self._decreased_at:
            self._decreased_at = now
            self._slow_start = False
            self._round = 0
            self._allow(self._allowed / 2)

    def _allow(self, lanes: float) -> None:
        self._allowed = min(self._max, max(1.0, lanes))
        self.lanes = 1 if self._measuring or self.probing else int(self._allowed)
