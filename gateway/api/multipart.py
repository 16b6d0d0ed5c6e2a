"""One field of a multipart body (RFC 7578), as it comes: devices send dumps as forms do files.

The parts before the field are read over and so are those behind it; what is held is a piece and the head of a part.
"""

import re
from collections.abc import AsyncIterator

from gateway.refusals import Malformed

HEAD_BYTES_MAX = 8 * 1024
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'(?i)content-disposition:[^\r\n]*?;\s*name=(?:"([^"\r\n]*)"|([^\s;"]+))')
CUT_OFF = "Body was cut off: the closing boundary of its form is missing"


def is_form(content_type: str) -> bool:
    """Whether a body is such a form."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


async def field(chunks: AsyncIterator[bytes], content_type: str, name: str) -> AsyncIterator[bytes]:
    """The bytes of the first part of this name; nothing where there is none. Raises Malformed."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise Malformed("Content-Type names no boundary of the form")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
    form = _Form(chunks)
    wanted, sent = name.encode(), False
    async for _ in form.until(delimiter):  # what stands before the first part
        pass
    while await form.has_part():
        head = b"".join([piece async for piece in form.until(b"\r\n\r\n", HEAD_BYTES_MAX)])
        named = _NAME.search(head)
        is_wanted = named is not None and (named[1] or named[2]) == wanted and not sent
        sent = sent or is_wanted
        async for piece in form.until(delimiter):
            if is_wanted:
                yield piece


class _Form:
    """The bytes of a form, taken up to one mark after another."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b"\r\n"  # so that the first delimiter is like all others

    async def has_part(self) -> bool:
        """Whether a part follows the delimiter that was read just now; False behind the last."""
        while len(self._held) < 2:
            await self._more()
        if self._held.startswith(b"--"):
            async for _ in self._chunks:  # what stands behind the last part
                pass
            return False
        # White space up to the end of the line belongs to the delimiter; the head may be empty, and begins with that.
        padding = b"".join([piece async for piece in self.until(b"\r\n", HEAD_BYTES_MAX)])
        if padding.strip(b" \t"):
            raise Malformed("The form cannot be read: a boundary is followed by something else")
        self._held = b"\r\n" + self._held
        return True

    async def until(self, mark: bytes, bytes_max: int | None = None) -> AsyncIterator[bytes]:
        """What comes before the next mark, which is taken away. Raises Malformed where none comes."""
        taken = 0
        while (place := self._held.find(mark)) < 0:
            safe = max(0, len(self._held) - len(mark) + 1)
            taken += safe
            if bytes_max is not None and taken > bytes_max:
                raise Malformed("The form cannot be read: the head of a part is too long")
            if safe:
                piece, self._held = self._held[:safe], self._held[safe:]
                yield piece
            await self._more()
        piece, self._held = self._held[:place], self._held[place + len(mark) :]
        if piece:
            yield piece

    async def _more(self) -> None:
        try:
            self._held += await anext(self._chunks)
        except StopAsyncIteration:
            raise Malformed(CUT_OFF) from None
