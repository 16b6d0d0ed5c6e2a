"""The one place where what proves somebody is compared: secrets, keys, tokens, signatures, and digests of them.

`==` ends at the first character that differs, and so tells, by the time it takes, how much of a guess was right. These
take as long for every guess of one length. A test keeps the rest of the program from comparing such things itself.
"""

import hmac

same_bytes = hmac.compare_digest
"""Whether two digests are one; the function of the library itself, since every message of a device is checked by it."""


def same_text(given: str, expected: str) -> bool:
    """Whether somebody gave what was expected, whatever characters it has."""
    return same_bytes(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))
