"""Serial numbers as they are stored and looked for.

Scanners send a line end behind what they read, and people copy blanks along. Whoever takes a serial number, from a
device, a person or a vendor's list, takes it through here, so that one unit has one.
"""

import unicodedata

_UNSEEN = "\ufeff\u200b"


def normalized(text: str) -> str:
    """Without white space and line ends around it, composed (NFC); may be empty."""
    return unicodedata.normalize("NFC", text).strip().strip(_UNSEEN).strip()
