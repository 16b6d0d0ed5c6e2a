"""What the developer centre hands out as files: the Postman collection, its environment, `/llms.txt`."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api import dialects
from gateway.api.callers.readers import READER
from gateway.developers import llms, postman
from gateway.refusals import Refusal

HEADERS = {"content-security-policy": "default-src 'none'", "x-content-type-options": "nosniff"}
JSON, TEXT = "application/json", "text/plain; charset=utf-8"


def routes(document: dict[str, Any]) -> list[Route]:
    """Where they are, made from an OpenAPI document. They name the gateway as it names itself.

    Whoever may read the centre may have them."""
    collection = functools.cache(lambda: msgspec.json.encode(postman.collection(document)))
    return [
        Route("/docs/postman.json", _answering(lambda url: collection(), JSON)),
        Route("/docs/postman_environment.json", _answering(_environment, JSON)),
        Route("/llms.txt", _answering(lambda url: llms.text(document, url).encode(), TEXT)),
    ]


def _environment(url: str) -> bytes:
    return msgspec.json.encode(postman.environment(url))


def _answering(made: Callable[[str], bytes], media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        services = request.state.services
        try:
            await READER.prove(services, request)
        except Refusal as refusal:
            return dialects.PLAIN.refused(refusal)
        return Response(made(services.url), media_type=media_type, headers=HEADERS)

    return answer
