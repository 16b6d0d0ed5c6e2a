"""One event on its way to one connector, the stage it is in and how it ended."""

from enum import Enum, StrEnum
from typing import TypeAlias
from uuid import UUID

from workers.dispatcher.body import Event

Kind: TypeAlias = tuple[UUID | None, str]
"""A device and a type of event."""


class Stage(Enum):
    """Where a delivery is on its way."""

    QUEUED = 1
    IN_FLIGHT = 2
    DONE = 3


class End(StrEnum):
    """What became of a delivery. All but FAILED and SKIPPED are final and counted."""

    DELIVERED = "delivered"
    EXPIRED = "expired"
    DROPPED = "dropped"
    FAILED = "failed"
    """To be tried again: it waits."""
    SKIPPED = "skipped"
    """No longer wanted when its turn came: never accepted."""


class Delivery:
    """One event owed to one connector. Times are seconds since 1970, `began` is monotonic (0: not begun)."""

    __slots__ = (
        "apart",
        "attempts",
        "began",
        "beside",
        "body",
        "end",
        "event",
        "event_id",
        "next_at",
        "owed_since",
        "stage",
        "test",
        "waiting_id",
    )

    def __init__(self, event: Event | None, owed_since: float) -> None:
        self.event = event
        self.event_id = event.id if event else ""
        self.body: bytes | None = None
        self.owed_since = owed_since
        self.waiting_id = 0
        self.attempts = 0
        self.test = False
        self.stage = Stage.QUEUED
        self.end = End.SKIPPED
        self.began = 0.0
        self.beside = 0
        """Requests of its connector that were under way when it began, itself included."""
        self.next_at = 0.0
        self.apart = False

    @property
    def kind(self) -> Kind:
        """What it is like."""
        event = self.event
        return (None, "") if event is None else (event.device_id, event.type)

    def __repr__(self) -> str:
        return f"<Delivery {self.event!r} {self.stage.name} attempts={self.attempts}>"
