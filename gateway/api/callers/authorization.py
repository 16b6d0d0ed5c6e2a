"""What the `Authorization` header of a request shows."""

from starlette.requests import Request

_SPACE = " \t\r\n"


def presented_key(request: Request) -> str:
    """The credential of a request."""
    return credential(request.headers.get("authorization", ""))


def credential(text: str) -> str:
    """What is shown, in a header or in a body, without white space around it; a `Bearer ` prefix is tolerated."""
    text = text.strip(_SPACE)
    return text[7:].strip(_SPACE) if text[:7].lower() == "bearer " else text


def api_key_scheme(description: str) -> dict[str, str]:
    """The security scheme of a credential that stands alone in the header."""
    return {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}
