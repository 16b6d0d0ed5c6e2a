"""What the `Authorization` header of a request shows."""

from starlette.requests import Request

_SPACE = " \t\r\n"
_TOLERATED = ("bearer", "targettoken")
"""Schemes before a key: the usual one, and that of firmware updaters."""


def presented_key(request: Request) -> str:
    """The credential of a request."""
    return credential(request.headers.get("authorization", ""))


def credential(text: str) -> str:
    """What is shown, in a header or a body, without white space; `Bearer ` and `TargetToken ` may stand before it."""
    text = text.strip(_SPACE)
    scheme, separator, key = text.partition(" ")
    return key.strip(_SPACE) if separator and scheme.lower() in _TOLERATED else text


def api_key_scheme(description: str) -> dict[str, str]:
    """The security scheme of a credential that stands alone in the header."""
    return {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}
