"""An event as JSON: compact, its members in the order of the contract."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids, rendering

PROJECT, DEVICE = UUID("0190a1b2-0000-7000-8000-000000000001"), UUID("0190a1b2-0000-7000-8000-000000000002")
TS = datetime(2022, 2, 10, 12, 42, 13, 313949, tzinfo=UTC)
DATA = '{"touch":{"updateTime":"2022-02-10T12:42:13.313949Z"}}'


def test_a_body_is_byte_for_byte_as_the_contract_shows_it() -> None:
    """Compact JSON, members in order, times with microseconds."""
    event = rendering.event("abc", "touch", PROJECT, DEVICE, TS, DATA)
    metadata = rendering.metadata(PROJECT, DEVICE, "touch", "")
    assert rendering.body(event, b'{"name":"hall"}', metadata).decode() == (
        f'{{"event":{{"eventId":"abc","targetName":"projects/{PROJECT}/devices/{DEVICE}","eventType":"touch",'
        f'"data":{DATA},"timestamp":"2022-02-10T12:42:13.313949Z"}},"labels":{{"name":"hall"}},'
        f'"metadata":{{"deviceId":"{DEVICE}","projectId":"{PROJECT}","deviceType":"touch","productNumber":""}}}}'
    )


def test_an_emulated_device_is_called_by_its_short_name() -> None:
    """In the event and beside it."""
    device_id = ids.new_emulated_id()
    name = ids.device_name(device_id)
    assert msgspec.json.decode(rendering.event("", "touch", PROJECT, device_id, TS, DATA))["targetName"].endswith(name)
    assert msgspec.json.decode(rendering.metadata(PROJECT, device_id, "", ""))["deviceId"] == name


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text()))
def test_whatever_people_write_comes_out_as_json(device_type: str, number: str, labels: dict[str, str]) -> None:
    """Quotes, line ends and control characters in labels and types do not break the body."""
    event = rendering.event("abc", "touch", PROJECT, DEVICE, TS, DATA)
    metadata = rendering.metadata(PROJECT, DEVICE, device_type, number)
    body = msgspec.json.decode(rendering.body(event, msgspec.json.encode(labels), metadata))
    assert body["labels"] == labels
    assert (body["metadata"]["deviceType"], body["metadata"]["productNumber"]) == (device_type, number)
