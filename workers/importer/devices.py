"""One device of a vendor's list, as the manifest says where its members lie."""

import re
from typing import Any, NamedTuple

from schemas import manifests
from workers.importer.lists import getter

TEXT_MAX = 255
SPACE_DEPTH_MAX = 16
_MAC = re.compile(r"[0-9a-f]{12}")
_SEPARATORS = re.compile(r"[:.\- ]")


class Listed(NamedTuple):
    """A device as listed; what the vendor does not tell is None. `space` is a path below the target space."""

    vendor_id: str
    name: str
    serial: str | None
    mac: str | None
    model: str | None
    firmware: str | None
    space: str | None


class Skipped(NamedTuple):
    """An item that is no device, and why."""

    vendor_id: str | None
    reason: str


class Mapper:
    """Reads devices out of items."""

    def __init__(self, device: manifests.Device) -> None:
        self._id = getter(device.id)
        self._name = getter(device.name)
        self._others = [
            None if expression is None else getter(expression)
            for expression in (device.serial, device.mac, device.model, device.firmware, device.space)
        ]

    def vendor_id(self, item: Any) -> str | None:
        """The id of an item, None when it has none."""
        return _text(self._id(item))

    def read(self, item: Any) -> Listed | Skipped:
        """The device, or why there is none."""
        vendor_id = _text(self._id(item))
        if vendor_id is None:
            return Skipped(None, "has no id")
        if len(vendor_id) > TEXT_MAX:
            return Skipped(vendor_id[:TEXT_MAX], f"its id is longer than {TEXT_MAX} characters")
        name = _text(self._name(item)) or vendor_id
        if len(name) > TEXT_MAX:
            return Skipped(vendor_id, f"its name is longer than {TEXT_MAX} characters")
        serial, mac, model, firmware, space = (None if get is None else get(item) for get in self._others)
        return Listed(vendor_id, name, _short(serial), _mac(mac), _short(model), _short(firmware), _space(space))


def _text(value: Any) -> str | None:
    """Text or a number as text, without what PostgreSQL cannot hold; None when nothing is left."""
    if type(value) is not str:
        if type(value) is not int:
            return None
        value = str(value)
    if "\x00" in value:
        value = value.replace("\x00", "")
    return value.strip().encode("utf-8", "replace").decode() or None


def _short(value: Any) -> str | None:
    text = None if value is None else _text(value)
    return None if text is None else text[:TEXT_MAX]


def _mac(value: Any) -> str | None:
    digits = _SEPARATORS.sub("", value).lower() if type(value) is str else ""
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2)) if _MAC.fullmatch(digits) else None


def _space(value: Any) -> str | None:
    """`a/b/c`; from a list of names too, in which a name's own slashes become hyphens."""
    if value is None:
        return None
    names = [_text(part) for part in value] if isinstance(value, list) else (_text(value) or "").split("/")
    path = [name.strip()[:TEXT_MAX].replace("/", "-") for name in names if name and name.strip()]
    return "/".join(path[:SPACE_DEPTH_MAX]) or None
