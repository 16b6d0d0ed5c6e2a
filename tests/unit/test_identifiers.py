"""What is told by devices and callers to be known by."""

from uuid import UUID

import pytest

from gateway.identifiers import firmware_version
from gateway.refusals import DoesNotFit
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


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("1.0.0", "1.0.0"),
        ("2.0.0-rc.1+build.5", "2.0.0-rc.1+build.5"),
        ("v1.0.0", "1.0.0"),
        ("V1.0", "1.0.0"),
        ("1.0.0.0", "1.0.0"),
        ("1.0.0.7", "1.0.0+7"),
        ("1.02.3", "1.2.3"),
        ("2024.01.05", "2024.1.5"),
        ("1.2.3.0-rc1", "1.2.3-rc1"),
        ("1.0.0-rc.01", "1.0.0-rc.1"),
        ("1.0.0_beta", "1.0.0-beta"),
        ("1.0.0 build 5", "1.0.0+build.5"),
        ("1.2.3.04+b..5", "1.2.3+4.b.5"),
        (" 1.0.0\r\n", "1.0.0"),
    ],
)
def test_a_firmware_version_is_a_semantic_version_however_it_is_told(told: str, version: str) -> None:
    """What the device told is kept where it differs."""
    assert firmware_version(told) == (version, None if told == version else told)


@pytest.mark.parametrize(
    "told", ["1", "v", "latest", "1..0", "1.0.0.0.0", "1.0.0/2", "-1.0.0", "\uff11.0.0", "1.0.0-é"]
)
def test_what_is_no_version_is_refused(told: str) -> None:
    """With a sentence."""
    with pytest.raises(DoesNotFit, match="is not a semantic version"):
        firmware_version(told)
