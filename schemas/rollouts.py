"""Firmware rollouts: what edges and workers must agree on. States and their transitions, and who belongs to a wave.

    draft ─start→ [waiting_for_approval ─approve→] [scheduled ─its time→] running ⇄ paused → finished | aborted

    waiting → offered → downloading → installing → succeeded | failed | timed_out | skipped | cancelled

The second line is one device's part. A part that was offered and not begun goes back to `waiting` when the rollout is
paused or its daily window closes; one that failed does while tries are left; one that succeeded does when its device
falls back to what it had before. Every part ends in one outcome, and is counted there and nowhere else.

People change a rollout by the actions here; all that happens by itself a worker does (`workers.rollouts`).
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal
from uuid import UUID

RolloutStatus = Literal["draft", "waiting_for_approval", "scheduled", "running", "paused", "finished", "aborted"]
RolloutAction = Literal["start", "approve", "pause", "resume", "abort", "next_wave"]
WaveStatus = Literal["pending", "open", "soaking", "waiting", "passed"]
PartState = Literal[
    "waiting",
    "offered",
    "downloading",
    "installing",
    "succeeded",
    "failed",
    "timed_out",
    "skipped",
    "cancelled",
]
Channel = Literal["reply", "command"]
"""How devices learn of it: by `latest_fw_*` in the response map, or by the command `update_firmware` besides."""
OnFailure = Literal["pause", "abort", "roll_back"]
OnSuccess = Literal["next", "wait"]

OPEN: frozenset[PartState] = frozenset({"offered", "downloading", "installing"})
"""The device has been offered the firmware, and its part has no outcome yet. A device has one such part at a time."""
REACHED: frozenset[PartState] = OPEN | {"succeeded"}
"""The rollout has reached the device: the firmware is its, as long as the rollout stands."""
OUTCOMES: frozenset[PartState] = frozenset({"succeeded", "failed", "timed_out", "skipped", "cancelled"})
ENDED: frozenset[RolloutStatus] = frozenset({"finished", "aborted"})
LIVE: frozenset[RolloutStatus] = frozenset({"running", "paused"})
"""A part that failed is tried again while its rollout is one of these."""

POSITIONS = 2**32
WAVES_MAX = 50
UPDATE_COMMAND = "update_firmware"

_FROM: Mapping[RolloutAction, frozenset[RolloutStatus]] = MappingProxyType(
    {
        "start": frozenset({"draft"}),
        "approve": frozenset({"waiting_for_approval"}),
        "pause": frozenset({"scheduled", "running"}),
        "resume": frozenset({"paused"}),
        "abort": frozenset({"draft", "waiting_for_approval", "scheduled", "running", "paused"}),
        "next_wave": frozenset({"running"}),
    }
)


def possible(status: RolloutStatus) -> tuple[RolloutAction, ...]:
    """What a person may do with a rollout that is in this status."""
    return tuple(action for action, statuses in _FROM.items() if status in statuses)


_DONE: Mapping[RolloutAction, frozenset[RolloutStatus]] = MappingProxyType(
    {
        "start": frozenset({"waiting_for_approval", "scheduled", "running"}),
        "approve": frozenset({"scheduled", "running"}),
        "pause": frozenset({"paused"}),
        "resume": frozenset({"scheduled", "running"}),
        "abort": frozenset({"aborted"}),
        "next_wave": frozenset(),
    }
)
"""Where an action has been done already, by somebody else a moment ago, say: it changes nothing then."""


class NotPossible(Exception):
    """A rollout is in a state in which that cannot be done."""


def after(
    action: RolloutAction, status: RolloutStatus, *, needs_approval: bool, starts_at: datetime | None, now: datetime
) -> RolloutStatus:
    """The status of a rollout after an action; the same one when it was done already. Raises NotPossible."""
    if status in _DONE[action]:
        return status
    if status not in _FROM[action]:
        raise NotPossible
    if action == "pause":
        return "paused"
    if action == "abort":
        return "aborted"
    if action == "start" and needs_approval:
        return "waiting_for_approval"
    return "scheduled" if starts_at is not None and starts_at > now else "running"


def position(rollout_id: UUID, device_id: UUID) -> int:
    """A device's place in a rollout, from 0 up to `POSITIONS`; the schema's `rollout_position` is the same.

    It depends on nothing else, so a wave that grows takes more devices in and puts none out.
    """
    digest = hashlib.md5(f"{rollout_id}{device_id}".encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16)


def positions_below(percent: float) -> int:
    """The devices of the first so many percent are those whose position is lower than this."""
    return round(POSITIONS * percent / 100)
