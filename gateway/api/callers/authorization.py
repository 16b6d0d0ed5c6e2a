"""What the `Authorization` header of a request shows."""

from starlette.requests import Request


def presented_key(request: Request) -> str:
    """The credential of a request; a `Bearer ` prefix is tolerated."""
    value = request.headers.get("authorization", "")
    return value[7:].strip() if value[:7].lower() == "bearer " else value


def api_key_scheme(description: str) -> dict[str, str]:
    """The security scheme of a credential that stands alone in the header."""
    return {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}
