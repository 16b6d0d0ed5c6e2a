"""One call of a device, and all that can become of it: an answer, keys that are forgotten, or another try later."""

from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

TIMEOUT_S = 15

T = TypeVar("T")


class ForgottenError(Exception):
    """The gateway does not know these keys (any more)."""


class LaterError(Exception):
    """It did not work this time. `status` is 0 when there was no answer; `after_s` is what a refusal asked for."""

    def __init__(self, text: str, status: int = 0, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.after_s = after_s


class Refusal(Struct):
    """Every refusal has a sentence."""

    error: str


async def send(http: aiohttp.ClientSession, method: str, url: str, access_key: str, body: Any, answer: type[T]) -> T:
    """One call. Whatever can go wrong with it becomes ForgottenError or LaterError here."""
    headers = {"authorization": access_key} if access_key else {}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with http.request(
            method, url, json=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            body = await response.read()
            if response.status == 401 and headers:
                raise ForgottenError
            if response.status >= 300:
                after = response.headers.get("retry-after", "")
                after_s = float(after) if after.isascii() and after.isdigit() else 0.0
                raise LaterError(f"{response.status} {_sentence(body)}", response.status, after_s)
            return msgspec.json.decode(body, type=answer)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LaterError(f"no answer from {url}: {str(error) or type(error).__name__}") from None
    except msgspec.MsgspecError as error:
        raise LaterError(f"{url} does not answer as a gateway does: {error}") from None


def _sentence(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Refusal).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "without a reason"
