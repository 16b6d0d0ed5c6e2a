"""`/llms.txt`: what there is to read here, as one Markdown page, for programs that read before they write."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from gateway.developers.reference import slug_of

PLACES = (
    ("/docs", "Developer centre", "every call with its members, limits, refusals and samples"),
    ("/openapi.json", "OpenAPI 3.1 document", "all calls, their schemas, with an example of every body"),
    ("/docs/postman.json", "Postman collection", "plays a device's whole life, from a model to its end"),
    ("/docs/postman_environment.json", "Postman environment", "what to fill in for the collection"),
)


def text(document: Mapping[str, Any], url: str) -> str:
    """The page, with addresses of the gateway at this URL."""
    info = document["info"]
    calls = sorted(
        (operation["tags"][0], f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    purposes = {tag["name"]: tag["description"] for tag in document["tags"]}
    lines = [f"# {info['title']}", "", f"> {info['description']}", "", "## Documents", ""]
    lines += [f"- [{title}]({url}{path}): {about}" for path, title, about in PLACES]
    for tag, group in groupby(calls, key=lambda call: call[0]):
        page = f"{url}/docs/reference/{slug_of(tag)}"
        lines += ["", f"## {tag}", "", purposes[tag], ""]
        for _, call, operation in group:
            lines.append(f"- [{call}]({page}#{operation['operationId']}): {operation['summary']}")
    return "\n".join(lines) + "\n"
