"""The licences of a simulated device: what its vendor signed is in use until its end, or until it is taken back."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from schemas.license_signatures import is_good

NO_KEY = "This device knows no key to check a license with"
FORGED = "The vendor did not sign this"


class Offered(Struct):
    """What a licence says that is to be added, updated or removed; without an id when there is none."""

    id: str = ""
    data: str = ""
    signature: str = ""
    action: Literal["add", "update", "remove"] = "add"
    expires_at: datetime | None = None


class InUse(Struct):
    """A licence that was applied."""

    data: str
    expires_at: datetime | None


class LicenseReport(Struct):
    """What became of it."""

    id: str
    state: Literal["inuse", "removed", "error"]
    error: str | None = None


def applied(held: dict[str, InUse], offered: Offered, public_key: str) -> LicenseReport:
    """Do what is offered to the licences of a device, if the owner of the key signed it; returns what to report."""
    if offered.action == "remove":
        held.pop(offered.id, None)
        return LicenseReport(offered.id, "removed")
    if not public_key:
        return LicenseReport(offered.id, "error", NO_KEY)
    if not is_good(public_key, offered.data, offered.signature):
        return LicenseReport(offered.id, "error", FORGED)
    held[offered.id] = InUse(offered.data, offered.expires_at)
    return LicenseReport(offered.id, "inuse")


def ended(held: dict[str, InUse], now: datetime) -> list[str]:
    """Stop using licences whose time is over; returns their ids."""
    over = [license_id for license_id, one in held.items() if one.expires_at is not None and one.expires_at <= now]
    for license_id in over:
        del held[license_id]
    return over
