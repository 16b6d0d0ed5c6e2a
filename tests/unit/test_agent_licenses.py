"""What a device does with the licences that it is offered."""

from datetime import UTC, datetime
from typing import Literal

from gateway.cli.simulated.licenses import FORGED, NO_KEY, InUse, LicenseReport, Offered, applied, ended
from schemas.license_signatures import LicenseKey

KEY, OTHER = LicenseKey.generate("ed25519"), LicenseKey.generate("ed25519")
END = datetime(2026, 5, 4, tzinfo=UTC)


def offered(action: Literal["add", "update", "remove"], data: str = "night") -> Offered:
    return Offered("L1", data, KEY.sign(data), action, END)


def test_a_device_uses_what_the_vendor_signed_until_its_end() -> None:
    """Adds, takes the change, and stops by itself at `expires_at`."""
    held: dict[str, InUse] = {}
    assert applied(held, offered("add"), KEY.public_pem()) == LicenseReport("L1", "inuse")
    assert applied(held, offered("update", "day"), KEY.public_pem()) == LicenseReport("L1", "inuse")
    assert held == {"L1": InUse("day", END)}
    assert ended(held, datetime(2026, 5, 3, tzinfo=UTC)) == []
    assert ended(held, END) == ["L1"]
    assert held == {}


def test_a_device_refuses_what_the_vendor_did_not_sign() -> None:
    """And what it cannot check, for want of a key; what it had stays."""
    held = {"L1": InUse("night", None)}
    forged = Offered("L1", "day", OTHER.sign("day"), "update", None)
    broken = Offered("L1", "day", "no base64!", "update", None)
    for one, key, error in (
        (forged, KEY.public_pem(), FORGED),
        (broken, KEY.public_pem(), FORGED),
        (offered("update"), "", NO_KEY),
    ):
        assert applied(held, one, key) == LicenseReport("L1", "error", error)
    assert held == {"L1": InUse("night", None)}


def test_a_device_removes_what_it_is_told_to_remove() -> None:
    """Also what it does not have (any more)."""
    held = {"L1": InUse("night", None)}
    for _ in range(2):
        assert applied(held, offered("remove"), KEY.public_pem()) == LicenseReport("L1", "removed")
    assert held == {}
