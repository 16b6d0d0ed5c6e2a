"""How long a request may take to arrive on routes that differ from the rest, for uploads over slow networks.

    /v1/devices/*/children/telemetries=120,/v1/devices/*/dumps/**=600

`*` stands for one member of a path, `**` for all that follow. The first that matches counts.
"""

import re


class RouteTimeouts:
    """The times of a setting; false when it names none."""

    def __init__(self, setting: str) -> None:
        pairs = [item.rpartition("=") for item in setting.split(",") if item]
        self._timeouts = [(_pattern(path), float(seconds)) for path, _, seconds in pairs]

    def __repr__(self) -> str:
        return f"<RouteTimeouts {len(self._timeouts)}>"

    def __bool__(self) -> bool:
        return bool(self._timeouts)

    def of(self, url: bytes) -> float | None:
        """The seconds that a request to this URL may take to arrive whole; None when it is like any other."""
        path = url.partition(b"?")[0]
        return next((seconds for pattern, seconds in self._timeouts if pattern.fullmatch(path)), None)


def _pattern(path: str) -> "re.Pattern[bytes]":
    escaped = re.escape(path).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
    return re.compile(escaped.encode())
