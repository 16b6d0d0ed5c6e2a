"""What one commit tells of one connector: places passed, what became of the events there, and what is set apart."""

from datetime import datetime

from workers.dispatcher.delivery import Delivery


class Progress:
    """What one commit tells of one connector."""

    __slots__ = (
        "accepted",
        "apart",
        "delivered",
        "dropped",
        "ended",
        "expired",
        "exposed",
        "failed",
        "positions",
        "retried",
    )

    def __init__(self) -> None:
        self.accepted = self.delivered = self.expired = self.dropped = 0
        self.exposed = 0
        self.positions: list[tuple[int, int, datetime]] = []
        self.apart: list[Delivery] = []
        self.failed: list[Delivery] = []
        self.ended: list[Delivery] = []
        self.retried: list[Delivery] = []

    def __bool__(self) -> bool:
        return bool(self.positions or self.ended or self.retried or self.apart or self.failed)
