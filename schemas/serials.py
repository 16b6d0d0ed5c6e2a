"""Serial numbers as they are stored and looked for.

Scanners send a line end behind what they read, or frame it with control characters (STX, ETX, EOT), and people copy
blanks along. Whoever takes a serial number, from a device, a person or a vendor's list, takes it through here, so that
one unit has one.
"""

import unicodedata

_UNSEEN = "".join(
    chr(code)
    for first, last in (
        *((0x01, 0x20), (0x7F, 0xA0), (0xAD, 0xAD), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200F)),
        *((0x2028, 0x202F), (0x205F, 0x206F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
    )
    for code in range(first, last + 1)
)
"""Control characters, spaces, ends of lines, and what joins or directs text; migration 36 has the same."""


def normalized(text: str) -> str:
    """Without what cannot be seen around it, composed (NFC); may be empty."""
    return unicodedata.normalize("NFC", text).strip(_UNSEEN)
