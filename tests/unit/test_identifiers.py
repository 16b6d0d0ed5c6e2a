"""What is told by devices and callers to be known by."""

from uuid import UUID

import pytest

from schemas.ids import uuid_of

ID = "0198c0de-0000-7000-8000-00000000000a"


def test_an_id_is_read_in_any_case() -> None:
    """As we write it, or in capitals."""
    assert uuid_of(ID) == uuid_of(ID.upper()) == UUID(ID)


@pytest.mark.parametrize(
    "text",
    [
        "00000000000040008000000000000001----",
        "----00000000000040008000000000000001",
        "{00000000000040008000000000000001}--",
        "urn:uuid:0000000000004000800000000001",
        "0198c0de_0000_7000_8000_00000000000a",
        "0198c0de-0000-7000-8000-0000000_000a",
        "0198c0de-0000-7000-8000-00000000000\u0661",
        "0198c0de0-000-7000-8000-00000000000a",
        " 198c0de-0000-7000-8000-00000000000a",
        "+198c0de-0000-7000-8000-00000000000a",
        "0x98c0de-0000-7000-8000-00000000000a",
        ID.replace("-", ""),
        "",
    ],
)
def test_other_spellings_are_no_ids(text: str) -> None:
    """One address has one spelling, but for capitals."""
    assert uuid_of(text) is None
