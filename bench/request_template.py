"""What the load generator sends to a server that speaks otherwise than the gateway: one request, written as a template.

Names in {braces} stand for what differs from message to message: `device` and `key` of the devices in turn, the number
`n` of the message, and `now`.
"""

import re
from datetime import UTC, datetime

import msgspec

_NAME = re.compile(rb"\{(device|key|n|now)\}")


class Template(msgspec.Struct):
    """A request without what HTTP itself wants."""

    path: str
    body: str
    headers: dict[str, str] = {}


class RequestTemplate:
    """The requests of one run, one after the other."""

    def __init__(self, text: bytes, host: str, lines: list[bytes]) -> None:
        written = msgspec.json.decode(text, type=Template)
        head = "".join(f"{name}: {value}\r\n" for name, value in written.headers.items())
        head = f"POST {written.path} HTTP/1.1\r\nHost: {host}\r\n{head}Content-Type: application/json\r\n"
        self._devices = [tuple(line.split()) for line in lines]
        self._head = _format(head)
        self._body = _format(written.body)
        self.sent = 0

    def next(self) -> bytes:
        """The bytes of the next request."""
        device_id, key = self._devices[self.sent % len(self._devices)]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
        values = {b"device": device_id, b"key": key, b"n": b"%d" % self.sent, b"now": now}
        self.sent += 1
        body = self._body % values
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._head % values, len(body), body)


def _format(text: str) -> bytes:
    """For the operator `%`, which is quicker than any other way."""
    return _NAME.sub(rb"%(\1)b", text.encode().replace(b"%", b"%%"))
