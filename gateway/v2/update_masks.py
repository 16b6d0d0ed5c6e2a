"""What a PATCH below `/v2` changes: the members that are there, or exactly what `update_mask` names."""

import re
from collections.abc import Collection

from msgspec import Struct

from gateway.refusals import DoesNotFit

EMPTY = "Update mask names nothing: leave it out to change the members that are there"
_UPPER = re.compile("[A-Z]")


class UpdateQuery(Struct, kw_only=True):
    """`update_mask` names paths, separated by commas: displayName, httpConfig.url, …"""

    update_mask: str | None = None


def paths(mask: str) -> list[str]:
    """The paths of a mask, each as a field is called. Raises DoesNotFit when there is none."""
    named = [part.strip() for part in mask.split(",")]
    found = [_UPPER.sub(lambda upper: f"_{upper[0].lower()}", path) for path in named if path]
    if not found:
        raise DoesNotFit(EMPTY)
    return found


def chosen(mask: str | None, known: Collection[str], given: Collection[str]) -> list[str]:
    """What changes: of the settings `known` those that are `given`, or those that the mask names. Raises DoesNotFit."""
    if mask is None:
        return [name for name in known if name in given]
    named = paths(mask)
    for path in named:
        if path not in known:
            raise DoesNotFit(f"Update mask names an unknown path: {path}. Known are {', '.join(known)}")
    return named
