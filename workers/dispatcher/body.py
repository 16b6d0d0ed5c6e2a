"""An event of the log as its receivers see it: put together from ready-made pieces, once for all connectors."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from schemas import ids
from schemas.events import rfc3339

_encode = msgspec.json.encode
_NO_LABELS = b"{}"


class Event:
    """One row of the log, and of its device what a body tells of it. Its JSON columns are text."""

    __slots__ = (
        "_after",
        "_before",
        "_id",
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
        self._before = b""
        self._after = b""

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
        if not self._before:
            self._render()
        labels = _NO_LABELS
        if label_keys and self.labels is not None:
            known: dict[str, Any] = msgspec.json.decode(self.labels)
            labels = _encode({key: known[key] for key in known if key in label_keys})
        return self._before + labels + self._after

    def _render(self) -> None:
        device, project = ids.device_name(self.device_id), self.project_id
        self._before = (
            f'{{"event":{{"eventId":"{self.id}","targetName":"projects/{project}/devices/{device}",'
            f'"eventType":"{self.type}","data":{self.data},"timestamp":"{rfc3339(self.ts)}"}},"labels":'
        ).encode()
        kind, number = _encode(self.device_type or "").decode(), _encode(self.product_number or "").decode()
        self._after = (
            f',"metadata":{{"deviceId":"{device}","projectId":"{project}",'
            f'"deviceType":{kind},"productNumber":{number}}}}}'
        ).encode()
