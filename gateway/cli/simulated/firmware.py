"""Firmware on its way to a device: fetched in pieces, resumed where it was cut off, checked by its digest.

    GET url  Range: bytes=N-M  If-Range: "etag"     206: the next piece     200: other bytes, from the start again

A piece at a time suits a slow modem, and lets the device go on reporting between two of them.
"""

import hashlib
from collections.abc import Mapping

import aiohttp

PIECE_BYTES = 64 * 1024
CHUNK_BYTES = 16 * 1024
TIMEOUT_S = 60


class RefusedError(Exception):
    """The bytes are not to be had. `status` is what was answered, 0 without an answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class CorruptError(Exception):
    """All bytes came, and they are not those that were announced."""


class Download:
    """One file: how far it is, and what its bytes add up to."""

    def __init__(self, url: str, checksum: str, headers: Mapping[str, str], piece_bytes: int = PIECE_BYTES) -> None:
        """`checksum` is the SHA-256 in hex; `headers` are the credential, if the URL has none."""
        self.url = url
        self.offset = 0
        self._checksum = checksum
        self._headers = headers
        self._piece_bytes = piece_bytes
        self._etag = ""
        self._digest = hashlib.sha256()

    def __repr__(self) -> str:
        return f"<Download {self.url} offset={self.offset}>"

    async def piece(self, http: aiohttp.ClientSession) -> bool:
        """Fetch the next piece; True when it was the last. Raises RefusedError, CorruptError."""
        headers = {**self._headers, "range": f"bytes={self.offset}-{self.offset + self._piece_bytes - 1}"}
        if self._etag:
            headers["if-range"] = self._etag
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with http.get(self.url, headers=headers, timeout=timeout, allow_redirects=False) as answer:
                if answer.status not in (200, 206):
                    raise RefusedError(f"{answer.status} from {self.url.partition('?')[0]}", answer.status)
                if answer.status == 200:
                    self._begin()
                self._etag = answer.headers.get("etag", "")
                size = int(answer.headers.get("content-range", "").rpartition("/")[2] or answer.content_length or 0)
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    self._digest.update(chunk)
                    self.offset += len(chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RefusedError(f"no answer: {str(error) or type(error).__name__}") from None
        if self.offset < size:
            return False
        if self._digest.hexdigest() != self._checksum:
            self._begin()
            raise CorruptError("The file is not the one that was announced: its SHA-256 is another")
        return True

    def _begin(self) -> None:
        self.offset, self._etag, self._digest = 0, "", hashlib.sha256()
