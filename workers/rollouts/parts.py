"""One device's part in a rollout: what the evidence makes of it. Decides, and does nothing.

A device tells nothing for the sake of a rollout. What is known of it: the ranges of the file that it asked for, how its
command goes, and the firmware version that it reports. The target version is success whatever else was seen.
"""

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from schemas.life_cycle import CommandStatus
from schemas.rollouts import ENDED, LIVE, OPEN, Channel, PartState, RolloutStatus

UP_TO_DATE = "has this version already"
NEWER = "has a newer version"
OLDER = "has an older version, to which nothing takes it back"
TOO_OLD = "has a version older than the least one that this can be installed over"
FAILED = "the command failed"
TOLD = "the device told so"
CANCELLED = "its command was cancelled"
STAYED = "still reports the version before, after the command was done"
SUPERSEDED = "another rollout brings another version"
FELL_BACK = "reports another version again"
NEVER_TOLD = "did not report back in time"
ABORTED = "the rollout was aborted"


class Terms(Struct, frozen=True, kw_only=True):
    """What a rollout asks of every device."""

    status: RolloutStatus
    channel: Channel
    downgrade: bool
    """Whether the target may be older than what devices have."""
    retries: int
    timeout: timedelta
    """From the offer to the report."""
    grace: timedelta
    """From a command that is done to the report."""


class Part(Struct, frozen=True, kw_only=True):
    """A device's part, as it is stored."""

    state: PartState
    reason: str | None = None
    attempts: int = 0
    """Offers so far, but those that were taken back."""
    offered_at: datetime | None = None
    due_at: datetime | None = None
    """When to look at it again, if nothing happens before."""


class Evidence(Struct, frozen=True, kw_only=True):
    """What is known of the device."""

    gone: str | None = None
    """Why it is none of the rollout's devices any more."""
    busy: bool = False
    """Whether it is at work for another rollout: that one goes first."""
    superseded: bool = False
    """Whether it is the turn of a rollout that brings a newer version, or takes devices back."""
    compared: int
    """Its firmware version is lower than the target (-1), the target (0), or higher (1)."""
    meets_least: bool = True
    """Whether the target can be installed over what it has."""
    reported_at: datetime | None = None
    """When it last told its version."""
    fetch_began_at: datetime | None = None
    fetched_at: datetime | None = None
    """When it took the file's first range, and the last one."""
    command: CommandStatus | None = None
    command_message: str | None = None
    told_failed: str | None = None
    """Why it failed, when the device itself told so; it may be empty."""
    delivered_at: datetime | None = None
    finished_at: datetime | None = None
    may_fetch: bool = True
    may_install: bool = True
    """As the rollout's daily window says, in the time zone of the device's space."""
    window_changes_at: datetime | None = None

    @property
    def begun(self) -> bool:
        """Whether the device is at it: then it is left alone."""
        return self.fetch_began_at is not None or self.delivered_at is not None

    def installing_since(self, channel: Channel) -> datetime | None:
        """When it had all that it needs, the command to install it included."""
        if self.command == "done":
            return self.finished_at
        if channel == "reply" or self.fetched_at is None:
            return self.fetched_at
        return None if self.delivered_at is None else max(self.fetched_at, self.delivered_at)


def judge(part: Part, seen: Evidence, terms: Terms, now: datetime) -> Part:
    """The part after what was seen; the same when that changes nothing."""
    if part.state != "waiting" and part.state not in OPEN:
        return _after_success(part, seen, terms) if part.state == "succeeded" else replace(part, due_at=None)
    if seen.gone is not None:
        return _end(part, "skipped", seen.gone)
    if seen.compared == 0:
        return _end(part, "skipped", UP_TO_DATE) if part.state == "waiting" else _end(part, "succeeded")
    if seen.compared > 0 and not terms.downgrade:
        return _end(part, "skipped", NEWER)
    if seen.compared < 0 and terms.downgrade:
        return _end(part, "skipped", OLDER)
    if part.state == "waiting":
        return _end(part, "cancelled", ABORTED) if terms.status in ENDED else replace(part, due_at=None)
    return _of_open(part, seen, terms, now)


def offer(part: Part, seen: Evidence, terms: Terms, now: datetime) -> Part:
    """A waiting part whose turn has come."""
    part = judge(part, seen, terms, now)
    if part.state != "waiting":
        return part
    if seen.superseded:
        return _end(part, "skipped", SUPERSEDED)
    if not seen.meets_least and not terms.downgrade:
        return _end(part, "skipped", TOO_OLD)
    if seen.busy:
        return part
    since = part.offered_at
    if since is not None and now >= since + terms.timeout:
        return _end(part, "timed_out", NEVER_TOLD)
    offered = replace(part, state="offered", attempts=part.attempts + (since is None), offered_at=since or now)
    return replace(offered, due_at=_due(offered, seen, terms))


def _of_open(part: Part, seen: Evidence, terms: Terms, now: datetime) -> Part:
    assert part.offered_at is not None
    since = seen.installing_since(terms.channel)
    if seen.command == "failed":
        return _again(part, terms, seen.command_message or FAILED)
    if seen.told_failed is not None:
        return _again(part, terms, seen.told_failed or TOLD)
    if seen.command == "aborted":
        return _end(part, "cancelled", CANCELLED)
    if since is not None and seen.reported_at is not None and seen.reported_at > since:
        return _again(part, terms, FELL_BACK)
    if seen.command == "done" and since is not None and now >= since + terms.grace:
        return _again(part, terms, STAYED)
    if not seen.begun:
        if seen.superseded:
            return _end(part, "skipped", SUPERSEDED)
        if terms.status in ENDED:
            return _end(part, "cancelled", ABORTED)
        if terms.status != "running":
            return replace(part, state="waiting", attempts=part.attempts - 1, offered_at=None, due_at=None)
    if now >= part.offered_at + terms.timeout:
        return _end(part, "timed_out", NEVER_TOLD)
    if not seen.begun and not seen.may_fetch:
        return replace(part, state="waiting", due_at=None)
    state: PartState = "installing" if since is not None else "downloading" if seen.begun else "offered"
    return replace(part, state=state, due_at=_due(part, seen, terms))


def _after_success(part: Part, seen: Evidence, terms: Terms) -> Part:
    fell_back = seen.gone is None and (seen.compared < 0 or (seen.compared > 0 and terms.downgrade))
    return _again(part, terms, FELL_BACK) if fell_back and terms.status in LIVE else replace(part, due_at=None)


def _again(part: Part, terms: Terms, reason: str) -> Part:
    """It failed: tried again while tries are left and the rollout lives."""
    if part.attempts > terms.retries or terms.status not in LIVE:
        return _end(part, "failed", reason)
    return replace(part, state="waiting", reason=reason, offered_at=None, due_at=None)


def _end(part: Part, outcome: PartState, reason: str | None = None) -> Part:
    return replace(part, state=outcome, reason=reason, due_at=None)


def _due(part: Part, seen: Evidence, terms: Terms) -> datetime:
    assert part.offered_at is not None
    moments = [part.offered_at + terms.timeout]
    if seen.command == "done" and seen.finished_at is not None:
        moments.append(seen.finished_at + terms.grace)
    waits = not seen.begun or (terms.channel == "command" and seen.command is None)
    if waits and seen.window_changes_at is not None:
        moments.append(seen.window_changes_at)
    return min(moments)
