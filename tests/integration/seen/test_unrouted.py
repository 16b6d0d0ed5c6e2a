"""What leads nowhere: unknown addresses, methods that an address does not have, bugs."""

import pytest
from edges import RunningEdge
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

V2 = {"help": "/docs"}


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/nothing", {}),
        ("/v1/devices/", {}),
        ("/core/v1/organization/devices/", {}),
        ("/v2", V2),
        ("/v2/nothing", V2),
        ("/v2/roles/", V2),
        ("/emulator/v2/nothing", V2),
    ],
)
async def test_an_unknown_address_is_not_found(edge: RunningEdge, path: str, more: dict[str, str]) -> None:
    """In the shape of the API that it looks like; with a slash behind it an address is another one, no redirect."""
    async with edge.http.post(edge.url + path, allow_redirects=False) as answer:
        told = await answer.json()
    assert (answer.status, told) == (404, {"error": "Not found", **more, **({"code": 404} if more else {})})


@pytest.mark.parametrize(
    ("path", "allowed", "more"),
    [
        ("/livez", "GET, HEAD", {}),
        ("/v1/devices", "POST", {}),
        ("/core/v1/organization/spaces", "GET, HEAD, POST", {}),
        ("/v2/projects/p/devices", "GET, HEAD", V2),
        ("/v2/projects/p/dataconnectors/d", "DELETE, GET, HEAD, PATCH", V2),
    ],
)
async def test_another_method_is_told_which_there_are(
    edge: RunningEdge, path: str, allowed: str, more: dict[str, str]
) -> None:
    """All of the address, whatever route they belong to (RFC 9110, section 15.5.6)."""
    async with edge.http.request("PROPFIND", edge.url + path) as answer:
        told = await answer.json()
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert told == {"error": "Method Not Allowed", **more, **({"code": 405} if more else {})}


async def test_head_is_get_without_a_body(edge: RunningEdge) -> None:
    """On every address that has GET."""
    for path, status in (("/livez", 200), ("/openapi.json", 200), ("/v2/roles", 401), ("/nothing", 404)):
        async with edge.http.head(edge.url + path) as answer:
            assert (answer.status, await answer.read()) == (status, b"")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/_tests/bug", {"error": "Internal error"}),
        ("/v2/_tests/bug", {"error": "Internal error", "code": 500, "help": "/docs"}),
    ],
)
async def test_a_bug_is_told_in_the_shape_of_its_api(edge: RunningEdge, path: str, told: dict[str, object]) -> None:
    """And says nothing of what went wrong inside."""

    async def bug(request: Request) -> Response:
        raise ZeroDivisionError("secret")

    edge.server.config.app.router.routes.append(Route(path, bug))  # type: ignore[union-attr]
    async with edge.http.get(edge.url + path) as answer:
        assert (answer.status, await answer.json()) == (500, told)
