"""Where signing in, and a page that says what went wrong, lead back to: a page of ours, whatever the address says."""

import re
from urllib.parse import urlsplit

_OURS = re.compile(r"/(?![/\\])[^\\\s\x00-\x1f\x7f]*")
CHARACTERS_MAX = 4096


def page_of_ours(address: str) -> str:
    """The path and query of a page here; the first page for anything that a browser might take for another site."""
    return address if len(address) <= CHARACTERS_MAX and _OURS.fullmatch(address) else "/"


def page_before(came: str, host: str, prefix: str) -> str:
    """The page that a browser says that it came from, as a path below the prefix; the first for one of another site."""
    try:
        parts = urlsplit(came)
    except ValueError:
        return "/"
    if parts.netloc != host or not parts.path.startswith(f"{prefix}/"):
        return "/"
    return page_of_ours(parts.path.removeprefix(prefix) + (f"?{parts.query}" if parts.query else ""))
