"""An event as JSON, the same bytes wherever it is told: history, stream, and the body of every delivery.

    {"eventId":…,"targetName":…,"eventType":…,"data":…,"timestamp":…}
    {"event":<that>,"labels":{…},"metadata":{"deviceId":…,"projectId":…,"deviceType":…,"productNumber":…}}

Compact, in this order of members. The log holds an event's data as the JSON text that was made when it was stored, and
that text is put in as it is: readers select `data::text`, and nothing is decoded on the way out.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from schemas import ids
from schemas.events import rfc3339

_encode = msgspec.json.encode


def device_path(project_id: UUID, device_id: UUID) -> str:
    """What the /v2 API calls a device: `projects/…/devices/…`."""
    return f"projects/{project_id}/devices/{ids.device_name(device_id)}"


def event(event_id: str, event_type: str, project_id: UUID, device_id: UUID, ts: datetime, data: str) -> bytes:
    """One event; `data` is JSON text."""
    return (
        f'{{"eventId":"{event_id}","targetName":"{device_path(project_id, device_id)}",'
        f'"eventType":"{event_type}","data":{data},"timestamp":"{rfc3339(ts)}"}}'
    ).encode()


def metadata(project_id: UUID, device_id: UUID, device_type: str, product_number: str) -> bytes:
    """What a delivery tells of the event's device."""
    return b'{"deviceId":"%b","projectId":"%b","deviceType":%b,"productNumber":%b}' % (
        ids.device_name(device_id).encode(),
        str(project_id).encode(),
        _encode(device_type),
        _encode(product_number),
    )


def body(event: bytes, labels: bytes, metadata: bytes) -> bytes:
    """The body of a delivery, of JSON pieces."""
    return b'{"event":%b,"labels":%b,"metadata":%b}' % (event, labels, metadata)
