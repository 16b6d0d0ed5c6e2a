"""The states of a licence, and every step from one to another: nobody else decides what may follow what.

    available ─assign→ pending_add ─in use→ inuse ─change→ pending_update ─in use→ inuse
                                              ├───revoke→ pending_remove ─removed→ removed
                                              └─expire→ expired ─revoke→ pending_remove
    pending_X ─fail→ error_X ─retry→ pending_X

A vendor assigns, changes, revokes and retries; the device tells that a licence is in use, removed, or could not be
applied; a worker expires. A step that leads to where the licence is already changes nothing and is no error. When its
device goes a licence is free again; when another unit takes the device's place it is offered to that one.
"""

from enum import Enum, StrEnum
from typing import Literal

Action = Literal["add", "update", "remove"]
Word = Literal["available", "pending_add", "inuse", "pending_update", "pending_remove", "removed", "expired", "error"]
"""What people are told of a state; which step ended in an error stands beside it."""


class LicenseState(StrEnum):
    """Where a licence is on its way; as stored."""

    AVAILABLE = "available"
    PENDING_ADD = "pending_add"
    INUSE = "inuse"
    PENDING_UPDATE = "pending_update"
    PENDING_REMOVE = "pending_remove"
    REMOVED = "removed"
    EXPIRED = "expired"
    ERROR_ADD = "error_add"
    ERROR_UPDATE = "error_update"
    ERROR_REMOVE = "error_remove"

    @property
    def word(self) -> Word:
        """As people and devices are told it."""
        return "error" if self in _FAILED.values() else self.value  # type: ignore[return-value]

    @property
    def action(self) -> Action | None:
        """What its device is to do, or failed to do."""
        _, _, action = self.value.partition("_")
        return action or None  # type: ignore[return-value]

    @property
    def is_pending(self) -> bool:
        """Whether the device has something to do."""
        return self in _FAILED


_FAILED = {
    LicenseState.PENDING_ADD: LicenseState.ERROR_ADD,
    LicenseState.PENDING_UPDATE: LicenseState.ERROR_UPDATE,
    LicenseState.PENDING_REMOVE: LicenseState.ERROR_REMOVE,
}
_RETRIED = {failed: pending for pending, failed in _FAILED.items()}
_PENDING = {pending: pending for pending in _FAILED}
PENDING: tuple[LicenseState, ...] = tuple(_FAILED)


class Step(Enum):
    """Something done to a licence: the word it is refused by, and where it leads from each state it may be done in."""

    ASSIGN = "pending_add", {LicenseState.AVAILABLE: LicenseState.PENDING_ADD}
    CHANGE = "pending_update", {LicenseState.INUSE: LicenseState.PENDING_UPDATE}
    REVOKE = (
        "pending_remove",
        {LicenseState.INUSE: LicenseState.PENDING_REMOVE, LicenseState.EXPIRED: LicenseState.PENDING_REMOVE},
    )
    RETRY = "pending", _RETRIED | _PENDING
    EXPIRE = "expired", {LicenseState.INUSE: LicenseState.EXPIRED}
    USE = (
        "inuse",
        {LicenseState.PENDING_ADD: LicenseState.INUSE, LicenseState.PENDING_UPDATE: LicenseState.INUSE},
    )
    REMOVE = "removed", {LicenseState.PENDING_REMOVE: LicenseState.REMOVED}
    FAIL = "error", _FAILED | {failed: failed for failed in _RETRIED}
    VERIFY = "pending", _PENDING

    def __init__(self, word: str, leads: dict[LicenseState, LicenseState]) -> None:
        self.word = word
        self.leads = leads


REPORTED: dict[str, Step] = {"inuse": Step.USE, "removed": Step.REMOVE, "error": Step.FAIL, "pending": Step.VERIFY}
"""What a device may tell of a licence."""

OFFERED_ANEW: dict[LicenseState, LicenseState] = {
    LicenseState.INUSE: LicenseState.PENDING_ADD,
    LicenseState.PENDING_UPDATE: LicenseState.PENDING_ADD,
    LicenseState.ERROR_ADD: LicenseState.PENDING_ADD,
    LicenseState.ERROR_UPDATE: LicenseState.PENDING_ADD,
    LicenseState.ERROR_REMOVE: LicenseState.PENDING_REMOVE,
}
"""When another unit takes the place of the device: what the one before had or could not apply. Others stay."""


class IllegalStepError(Exception):
    """A step that may not be done in this state; the text is for people."""

    def __init__(self, word: str, state: LicenseState) -> None:
        super().__init__(f"State can't switch to {word} from {state.word}")


def after(state: LicenseState, step: Step) -> LicenseState:
    """Where a step leads from a state; to the same one where it was done already. Raises IllegalStepError."""
    if state in step.leads:
        return step.leads[state]
    if state.value == step.word:
        return state
    raise IllegalStepError(step.word, state)
