"""Where signing in leads back to: a page of ours, whatever the address says."""

import re

_OURS = re.compile(r"/(?![/\\])[^\\\s\x00-\x1f\x7f]*")
CHARACTERS_MAX = 4096


def page_of_ours(address: str) -> str:
    """The path and query of a page here; the first page for anything that a browser might take for another site."""
    return address if len(address) <= CHARACTERS_MAX and _OURS.fullmatch(address) else "/"
