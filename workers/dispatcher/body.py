"""An event of the log as its receivers see it: rendered once for all connectors."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from schemas import ids, rendering

_NO_LABELS = b"{}"


class Event:
    """One row of the log, and of its device what a body tells of it. Its JSON columns are text."""

    __slots__ = (
        "_event",
        "_id",
        "_metadata",
        "data",
        "device_id",
        "device_type",
        "labels",
        "product_number",
        "project_id",
        "seq",
        "shard",
        "stored_at",
        "ts",
        "type",
    )

    def __init__(
        self,
        shard: int,
        seq: int,
        stored_at: datetime,
        type: str,  # noqa: A002
        device_id: UUID,
        project_id: UUID,
        ts: datetime,
        data: str,
        labels: str | None,
        device_type: str | None,
        product_number: str | None,
    ) -> None:
        self.shard = shard
        self.seq = seq
        self.stored_at = stored_at
        self.type = type
        self.device_id = device_id
        self.project_id = project_id
        self.ts = ts
        self.data = data
        self.labels = labels
        self.device_type = device_type
        self.product_number = product_number
        self._id = ""
        self._event = b""
        self._metadata = b""

    def __repr__(self) -> str:
        return f"<Event {self.type} {self.shard}/{self.seq}>"

    @property
    def id(self) -> str:
        """The public id, the same in history, stream and every delivery."""
        if not self._id:
            self._id = ids.event_id(int(self.stored_at.timestamp()), self.shard, self.seq)
        return self._id

    def body(self, label_keys: frozenset[str]) -> bytes:
        """The request body for a connector that sends along these labels."""
        if not self._event:
            self._event = rendering.event(self.id, self.type, self.project_id, self.device_id, self.ts, self.data)
            self._metadata = rendering.metadata(
                self.project_id, self.device_id, self.device_type or "", self.product_number or ""
            )
        labels = _NO_LABELS
        if label_keys and self.labels is not None:
            known: dict[str, Any] = msgspec.json.decode(self.labels)
            labels = msgspec.json.encode({key: known[key] for key in known if key in label_keys})
        return rendering.body(self._event, labels, self._metadata)
