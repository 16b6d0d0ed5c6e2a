"""One device of a vendor's list, as the manifest says where its members lie."""

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from schemas import serials
from schemas.manifests.manifest import Device
from workers.importer.expressions import getter

TEXT_MAX = 255
SPACE_DEPTH_MAX = 16
_MAC = re.compile(r"[0-9a-f]{12}")
_CANONICAL_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_SEPARATORS = re.compile(r"[:.\- ]")
_new_tuple = tuple.__new__
"""Makes a named tuple in a third of the time that its class takes."""


class Listed(NamedTuple):
    """A device as listed; what the vendor does not tell is None. `space` is a path below the target space."""

    vendor_id: str
    name: str | None
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

    def __init__(self, device: Device) -> None:
        others = (device.serial, device.mac, device.model, device.firmware, device.space)
        self._id, self._name = getter(device.id), getter(device.name)
        self._others = [None if one is None else getter(one) for one in others]
        members = [one for one in (device.id, device.name, *others) if one is not None and one.isidentifier()]
        self._all = itemgetter(*members) if len(members) == len(Listed._fields) else None

    def vendor_id(self, item: Any) -> str | None:
        """The id of an item, None when it has none that could be one."""
        found = self._id(item)
        text = text_of(found)
        return None if text is None or len(text) > TEXT_MAX or not _is_whole(found) else text

    def read(self, item: Any) -> Listed | Skipped:
        """The device, or why there is none."""
        return self._read_plain(item) or self._read(item)

    def _read_plain(self, item: Any) -> Listed | None:
        """What `_read` returns for nearly every item of a list whose members are all plain text, in half the time."""
        if self._all is None:
            return None
        try:
            texts = self._all(item)
            whole = "|".join(texts)
        except (KeyError, TypeError):
            return None
        if len(whole) > TEXT_MAX or not (whole.isascii() and whole.isprintable()):
            return None
        if whole[0] in "| " or whole[-1] == " " or " |" in whole or "| " in whole:
            return None  # no id, or blanks around something
        vendor_id, name, serial, mac, model, firmware, space = texts
        if not _CANONICAL_MAC.fullmatch(mac):
            mac = _mac(mac)
        listed = (vendor_id, name or None, serial or None, mac, model or None, firmware or None, _path(space))
        return _new_tuple(Listed, listed)

    def _read(self, item: Any) -> Listed | Skipped:
        found = self._id(item)
        vendor_id = text_of(found)
        if vendor_id is None:
            return Skipped(None, "has no id")
        if not _is_whole(found):
            return Skipped(vendor_id[:TEXT_MAX], "its id has half a character")
        if len(vendor_id) > TEXT_MAX:
            return Skipped(vendor_id[:TEXT_MAX], f"its id is longer than {TEXT_MAX} characters")
        name = text_of(self._name(item))
        if name is not None and len(name) > TEXT_MAX:
            return Skipped(vendor_id, f"its name is longer than {TEXT_MAX} characters")
        serial, mac, model, firmware, space = (None if get is None else get(item) for get in self._others)
        return Listed(vendor_id, name, _serial(serial), _mac(mac), _short(model), _short(firmware), _space(space))


def _is_whole(value: Any) -> bool:
    """Whether nothing of an id would be replaced: two ids could then be one."""
    return not isinstance(value, str) or value.isascii() or value.encode("utf-8", "replace").decode() == value


def text_of(value: Any) -> str | None:
    """Text or a number as text, without what PostgreSQL cannot hold; None when nothing is left."""
    if type(value) is not str:
        if type(value) is not int:
            return None
        value = str(value)
    if not value.isascii() or "\x00" in value:
        value = value.replace("\x00", "").encode("utf-8", "replace").decode()
    return value.strip() or None


def _short(value: Any) -> str | None:
    text = None if value is None else text_of(value)
    return None if text is None else text[:TEXT_MAX]


def _serial(value: Any) -> str | None:
    text = _short(value)
    return None if text is None else serials.normalized(text) or None


def _mac(value: Any) -> str | None:
    if type(value) is not str or _CANONICAL_MAC.fullmatch(value):
        return value if type(value) is str else None
    digits = _SEPARATORS.sub("", value).lower()
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2)) if _MAC.fullmatch(digits) else None


def _space(value: Any) -> str | None:
    """`a/b/c`; from a list of names too, in which a name's own slashes become hyphens."""
    if isinstance(value, list):
        return _joined([text_of(part) for part in value])
    text = text_of(value)
    return None if text is None else _path(text)


@lru_cache(4096)
def _path(text: str) -> str | None:
    return _joined(text.split("/"))


def _joined(names: Sequence[str | None]) -> str | None:
    path = [name.strip()[:TEXT_MAX].replace("/", "-") for name in names if name and name.strip()]
    return "/".join(path[:SPACE_DEPTH_MAX]) or None
