"""U+0000 in JSON: found however it is written, and only then."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import nul, telemetry

NOW = datetime(2026, 11, 27, 7, 0, tzinfo=UTC)
TEXTS = st.lists(st.sampled_from(["\0", "\\", "u0000", "u", "0", '"', "\n", "/"]), max_size=8).map("".join)
"""Of what an escape is made of, so that many look like one."""


@example({"\\u0000": []})
@example({"a": ["\\\\u0000\0"]})
@given(st.dictionaries(TEXTS, st.lists(TEXTS)))
def test_it_is_found_when_a_text_holds_it(body: dict[str, list[str]]) -> None:
    """Whatever stands before it: backslashes come in pairs, but for the one of an escape."""
    holds = any("\0" in text for texts in ([*body], *body.values()) for text in texts)
    assert nul.says_nul(json.dumps(body).encode()) is holds


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"telemetries":{"a":1,"b":"\\u0000"}}', "Telemetries.b: a text must not hold U+0000"),
        (b'{"telemetries":{"a\\u0000":1}}', "Telemetries: a text must not hold U+0000"),
        (b'{"status":"online","message":"x\\u0000"}', "Message: a text must not hold U+0000"),
        (b'{"status":"online","more":[{"a":["\\u0000"]}]}', "More[0].a[0]: a text must not hold U+0000"),
        (b'\xef\xbb\xbf{"status":"online","message":"\\u0000"}', "Message: a text must not hold U+0000"),
        (b'{"telemetries":{"a":"\\u0000","a":"b"}}', "A text must not hold U+0000"),
        (b'{"status":"online","more":' + b"[" * 700 + b'"\\u0000"' + b"]" * 700 + b"}", "A text must not hold U+0000"),
    ],
)
def test_telemetry_is_refused_with_the_name_of_the_member(body: bytes, sentence: str) -> None:
    """In values, keys and the message; in what is not read, and in what another member of that name hides."""
    with pytest.raises(telemetry.TelemetryError) as refused:
        telemetry.admit(body, NOW)
    assert (refused.value.status, str(refused.value)) == (422, sentence)


def test_what_earlier_versions_took_can_still_be_stored() -> None:
    """It was acknowledged."""
    assert telemetry.decode(b'{"telemetries":{"a":"\\u0000"}}', NOW).telemetries == {"a": "\0"}
