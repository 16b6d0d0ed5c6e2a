"""What is printed on a device, or told by it, to be known by: MAC address, Cloud ID, firmware version.

Each is checked and normalised here before it is stored or looked for. What does not fit is refused with a sentence that
begins with the member at fault.
"""

import re
from typing import NamedTuple

from gateway.refusals import DoesNotFit
from schemas import serials

_SEPARATORS = re.compile(r"[:.\-]")
_TWELVE_DIGITS = re.compile(r"[0-9a-f]{12}")
_CLOUD_ID_REST = re.compile(r"[A-Za-z0-9]{16,36}")
_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRERELEASE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
"""Semantic Versioning 2.0.0, section "Backus–Naur Form Grammar"."""
_TOLD = re.compile(r"[vV]?\.?(?P<numbers>[0-9]+(?:\.[0-9]+){1,3})(?P<rest>[-+_ ][0-9A-Za-z.+_ -]*)?")
"""What vendors' tools print: a v in front, two or four numbers, leading zeros."""


class FirmwareVersion(NamedTuple):
    """A semantic version, and how the device told it where that is another text."""

    version: str
    told: str | None


def filled(member: str, text: str | None) -> str:
    """The text, which must be there and not blank. Raises DoesNotFit."""
    if text is None or not text.strip():
        raise DoesNotFit(f"{member} can't be blank")
    return text


def serial_number(text: str | None) -> str:
    """The serial number, normalised; it must not be blank. Raises DoesNotFit."""
    return filled("Sn", serials.normalized(text or ""))


def is_mac(text: str) -> bool:
    """Whether this is a MAC address in any usual spelling."""
    return _TWELVE_DIGITS.fullmatch(_digits(text)) is not None


def _digits(mac: str) -> str:
    return _SEPARATORS.sub("", mac.strip()).lower()


def normalized_mac(text: str) -> str:
    """`aa:bb:cc:dd:ee:ff` for any usual spelling of a MAC address. Raises DoesNotFit."""
    digits = _digits(text)
    if not _TWELVE_DIGITS.fullmatch(digits):
        raise DoesNotFit("Mac is not a MAC address")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def firmware_version(text: str | None, member: str = "Firmware version") -> FirmwareVersion:
    """The firmware version that a device tells, as a semantic version such as 1.4.0 or 2.0.0-rc.1. Raises DoesNotFit.

    `v1.0.0`, `1.02.3` and `1.0` are common, and so is a fourth number; that and what follows a space become build
    metadata.
    """
    text = filled(member, text)
    plain = text.strip()
    version = plain if _SEMVER.fullmatch(plain) else _semantic(plain)
    if version is None:
        raise DoesNotFit(f"{member} is not a semantic version such as 1.4.0")
    return FirmwareVersion(version, None if version == text else text)


def _semantic(text: str) -> str | None:
    found = _TOLD.fullmatch(text)
    if found is None:
        return None
    numbers = [number.lstrip("0") or "0" for number in found["numbers"].split(".")]
    version, fourth = ".".join([*numbers, "0"][:3]), numbers[3:]
    prerelease, _, build = (found["rest"] or "").replace("_", "-").replace(" ", "+").partition("+")
    # Identifiers are never empty, and numbers in front of the plus sign have no zeros in front.
    before = [part.lstrip("0") or "0" if part.isdigit() else part for part in prerelease[1:].split(".") if part]
    after = [part for part in (*fourth, *build.replace("+", ".").split(".")) if part and [part] != ["0"]]
    version += "".join(["-" + ".".join(before)] if before else []) + "".join(["+" + ".".join(after)] if after else [])
    return version if _SEMVER.fullmatch(version) else None


def cloud_id(text: str | None, short_code: str | None) -> str:
    """The text, which must be a Cloud ID of the vendor with this short code. Raises DoesNotFit."""
    text = filled("Cloud id", text)
    if short_code is None:
        raise DoesNotFit("Cloud id: the vendor has no short code yet, ask the operator of the gateway for one")
    if not text.startswith(short_code) or not _CLOUD_ID_REST.fullmatch(text[len(short_code) :]):
        raise DoesNotFit(f"Cloud id must be the vendor's short code {short_code} and 16 to 36 ASCII letters and digits")
    return text
