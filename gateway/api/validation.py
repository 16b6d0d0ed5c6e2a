"""Checks that calls of devices and of organizations share, with their limits.

An index entry has a size, so every text has a length. What does not fit is refused with a sentence that begins with the
member at fault.
"""

import functools
import zoneinfo
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.refusals import DoesNotFit
from schemas.incidents import PRIORITIES

NAME_CHARACTERS_MAX = 255
TEXT_CHARACTERS_MAX = 10_000
JSON_DEPTH_MAX = 32
DETAILS_BYTES_MAX = 16 * 1024
CONFIG_BYTES_MAX = 128 * 1024
"""Of a config that an owner sends."""
VERSION_MAX = 2**53 - 1
"""The largest version that a device may name: every JSON library holds it exactly, and counting on never overflows."""

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
Label = Annotated[str, Meta(max_length=NAME_CHARACTERS_MAX)]
"""A name that may be empty."""
Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
Version = Annotated[int, Meta(ge=0, le=VERSION_MAX)]


Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]


class Named(Struct):
    """A request that gives a thing its name."""

    name: Name


def details(value: dict[str, Any] | None) -> dict[str, Any]:
    """What a device notes about itself, within its limits; nothing becomes empty. Raises DoesNotFit."""
    check_depth("Details", value)
    if value and len(msgspec.json.encode(value)) > DETAILS_BYTES_MAX:
        raise DoesNotFit(f"Details must be at most {DETAILS_BYTES_MAX} bytes of JSON")
    return value or {}


def check_priority(priority: int) -> None:
    """Raises DoesNotFit for what is no priority of an incident."""
    if not 1 <= priority <= len(PRIORITIES):
        raise DoesNotFit(f"Priority must be between 1 and {len(PRIORITIES)}")


def check_depth(member: str, value: Any) -> None:
    """Raises DoesNotFit for JSON that is nested more than `JSON_DEPTH_MAX` deep."""
    level = [value]
    for _ in range(JSON_DEPTH_MAX):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _members(outer)]
        if not level:
            return
    raise DoesNotFit(f"{member} is nested too deeply: at most {JSON_DEPTH_MAX} levels")


def _members(outer: dict[str, Any] | list[Any]) -> list[Any]:
    return list(outer.values()) if isinstance(outer, dict) else outer


def check_place(latitude: float | None, longitude: float | None, time_zone: str, *, named: str = "Time zone") -> None:
    """Raises DoesNotFit for half a pair of coordinates, and for what is no time zone (a member `named` so)."""
    if (latitude is None) != (longitude is None):
        raise DoesNotFit("Latitude and longitude go together")
    if time_zone not in _time_zones():
        raise DoesNotFit(f"{named} is not one of the IANA database, such as Europe/Oslo")


@functools.cache
def _time_zones() -> frozenset[str]:
    """The zones that are a place or an offset: not what stands for "this machine's" or for "none was set"."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"} | {"UTC"})
