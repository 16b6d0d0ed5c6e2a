"""How requests to a vendor are proven: by what was entered, by a token, or by a signature of each."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from yarl import URL

from schemas.cloud import Credentials
from schemas.manifests.authentication import ApiKey, Authentication, Basic, Bearer, Hmac
from schemas.manifests.texts import filled
from workers.importer.requests import Requests, VendorError
from workers.importer.tokens import Tokens, basic, header_value


class Proofs:
    """Proves one connector's requests, with `values` that texts of the manifest are filled with."""

    def __init__(
        self,
        kind: Authentication,
        values: dict[str, str],
        credentials: Credentials,
        requests: Requests,
        keep: Callable[[Credentials], Awaitable[None]],
        address: Callable[[str], str],
    ) -> None:
        self._kind = kind
        self._values = values
        self._tokens: Tokens | None = None
        if not isinstance(kind, ApiKey | Basic | Bearer | Hmac):
            self._tokens = Tokens(kind, values, credentials, requests, keep, address)

    def __repr__(self) -> str:
        return f"<Proofs {type(self._kind).__name__}>"

    @property
    def renewable(self) -> bool:
        """Whether what was refused can be followed by something new."""
        return self._tokens is not None and self._tokens.renewable

    def expire(self) -> None:
        """It was refused: the next request is proven anew."""
        if self._tokens is not None:
            self._tokens.expire()

    async def prepare(self) -> None:
        """Get what proves, and what is found with it. Raises VendorError."""
        if self._tokens is not None:
            await self._tokens.prepare()

    async def headers(self, method: str, target: URL, data: bytes | None) -> dict[str, str]:
        """What proves a request. Raises VendorError."""
        kind, values = self._kind, self._values
        match kind:
            case ApiKey():
                return {kind.header: header_value(kind.value, values)}
            case Basic():
                return {"Authorization": basic(filled(kind.user, values), filled(kind.password, values))}
            case Bearer():
                return {"Authorization": header_value(f"Bearer {kind.token}", values)}
            case Hmac():
                return self._signature(kind, method, target, data or b"")
        assert self._tokens is not None
        await self._tokens.prepare()
        return self._tokens.header()

    def _signature(self, kind: Hmac, method: str, target: URL, data: bytes) -> dict[str, str]:
        now = time.time()
        known = self._values | {
            "method": method,
            "path": target.raw_path,
            "query": target.raw_query_string,
            "host": target.raw_authority,
            "body": data.decode(),
            "body_sha256": hashlib.sha256(data).hexdigest(),
            "timestamp": str(int(now)),
            "timestamp_ms": str(int(now * 1000)),
            "date": formatdate(now, usegmt=True),
            "nonce": secrets.token_hex(16),
        }
        secret = filled(kind.secret, self._values)
        try:
            key = {"text": str.encode, "hex": bytes.fromhex, "base64": base64.b64decode}[kind.secret_encoding](secret)
        except ValueError:
            raise VendorError(f"The secret is not {kind.secret_encoding}", unauthorized=True) from None
        made = hmac.digest(key, filled(kind.text, known).encode(), kind.algorithm)
        known["signature"] = made.hex() if kind.encoding == "hex" else base64.b64encode(made).decode()
        return {name: header_value(text, known) for name, text in kind.headers.items()}
