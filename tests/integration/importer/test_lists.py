"""Vendors' answers, good and bad: only a list that is proven complete counts."""

import asyncio
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from imports import Imports
from vendors import PAGING, manifest

from workers.importer import expressions, lists, requests


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("paging", PAGING)
@pytest.mark.parametrize("count", [0, 1, 3, 7])
async def test_every_kind_of_paging_reads_the_whole_list(
    imports: Imports, paging: str, total: bool, count: int
) -> None:
    imports.cloud.has(*(f"d{n}" for n in range(count)))
    (imports.cloud.folder / "acme.toml").write_text(manifest(paging, total=total))
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["found"], run["created"]) == (None, count, count)


def _pages(*answers: Any) -> Any:
    """Answer the n-th request so; the last goes on."""

    def before(request: web.Request, number: int) -> Any:
        found = answers[min(number, len(answers)) - 1]
        return found() if callable(found) else found

    return before


async def _cut_off(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'{"devices": [{"id":')
    assert request.transport is not None
    request.transport.close()
    return answer


async def _endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    try:
        for _ in range(100_000):
            await answer.write(b" " * 65_536)
    except (ConnectionError, asyncio.CancelledError):
        return answer
    return answer


async def _bomb(request: web.Request) -> web.Response:
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})


async def _drip(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    try:
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.05)
    except (ConnectionError, asyncio.CancelledError):
        return answer


def _on_page(number: int, answer: Any) -> Any:
    """Answer one page so, and the others well."""

    def before(request: web.Request, _: int) -> Any:
        if request.query.get("page") != str(number):
            return None
        return answer(request) if callable(answer) else answer

    return before


BAD = {
    "cut off in the middle of page 2": (_on_page(2, _cut_off), "failed"),
    "a page repeated for ever": (
        lambda *_: web.json_response({"devices": [{"id": "x", "name": "X"}]}),
        "repeats a page",
    ),
    "401 in the middle": (_on_page(2, lambda _: web.Response(status=401)), "refused the credentials"),
    "500 for ever": (_on_page(2, lambda _: web.Response(status=500)), "answered 500"),
    "HTML instead of JSON": (_on_page(2, lambda _: web.Response(text="<p>", content_type="text/html")), "not JSON"),
    "no list": (_on_page(2, lambda _: web.json_response({"error": "none"})), "has no list at `devices`"),
    "a list of another kind": (_on_page(2, lambda _: web.json_response([1, 2])), "has no list at `devices`"),
    "a redirect": (_on_page(2, lambda _: web.Response(status=302, headers={"Location": "/"})), "answered 302"),
    "an endless answer": (_on_page(2, _endless), "larger than 32 MiB"),
    "a drip": (_on_page(2, _drip), "did not answer"),
    "deep nesting": (
        _on_page(2, lambda _: web.Response(text="[" * 100_000, content_type="application/json")),
        "not JSON",
    ),
    "more than there is memory, packed": (_on_page(2, _bomb), "larger than 32 MiB"),
    "a pause of ages": (
        _on_page(2, lambda _: web.Response(status=429, headers={"Retry-After": "9" * 400})),
        "asks for a pause of 86400 s",
    ),
    "a pause of no number": (
        _on_page(2, lambda _: web.Response(status=500, headers={"Retry-After": "²"})),
        "answered 500",
    ),
    "a pause of an hour": (
        _on_page(2, lambda _: web.Response(status=429, headers={"Retry-After": "3600"})),
        "asks for a pause of 3600 s",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_answer_fails_the_run_and_changes_nothing(
    imports: Imports, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports.cloud.has(*"abcdef")
    connector = await imports.connector()
    await imports.sync(connector)
    if name == "a drip":
        monkeypatch.setattr(requests, "REQUEST_S", 1.0)
    was = await imports.devices(connector)
    imports.cloud.has("only", "other", "third", "fourth")
    imports.cloud.before, told = BAD[name]
    run = await imports.sync(connector)
    assert told in run["error"]
    assert imports.cloud.token not in str(run)
    assert await imports.devices(connector) == was


async def test_a_total_that_does_not_match_fails_the_run(imports: Imports) -> None:
    (imports.cloud.folder / "acme.toml").write_text(manifest("cursor", total=True))
    imports.cloud.has(*"abcdef")
    connector = await imports.connector()
    for total in (5, 7):
        imports.cloud.total = total
        assert (await imports.sync(connector))["error"] == (
            f"The list is not complete: the vendor counts {total} devices and listed 6"
        )
    assert await imports.devices(connector) == {}


async def test_a_total_that_is_never_told_fails_the_run(imports: Imports) -> None:
    """It may come on the last page only, but it must come."""
    (imports.cloud.folder / "acme.toml").write_text(manifest("page", total=True))
    imports.cloud.before = lambda *_: web.json_response({"devices": [], "total": None})
    assert "has no number at `total`" in (await imports.sync(await imports.connector()))["error"]


@pytest.mark.parametrize("total", ["²", "9" * 5000, True, "", [1]])
async def test_a_total_that_is_no_number_fails_the_run(imports: Imports, total: Any) -> None:
    (imports.cloud.folder / "acme.toml").write_text(manifest("page", total=True))
    imports.cloud.before = lambda *_: web.json_response({"devices": [{"id": 1}], "total": total})
    assert "has no number at `total`" in (await imports.sync(await imports.connector()))["error"]


@pytest.mark.parametrize(
    "link",
    [
        '<{next}>; rel="next"',
        "<{next}>;REL=next; title=more",
        '</devices?page=9>; rel="prev", <{next}>; title="a"; rel="last next"',
        '<{next}>; rel="next"; ' + "a=   ;" * 1000,
    ],
)
async def test_links_to_the_next_page_are_found(imports: Imports, link: str) -> None:
    """However they are written."""
    (imports.cloud.folder / "acme.toml").write_text(manifest("link"))

    def before(request: web.Request, _: int) -> web.Response:
        if request.query.get("page") == "2":
            return web.json_response({"devices": [{"id": 2}]}, headers={"Link": "<x>;" + "a=   ;" * 1000 + "rel=nxt"})
        return web.json_response({"devices": [{"id": 1}]}, headers={"Link": link.format(next="/devices?page=2")})

    imports.cloud.before = before
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["found"]) == (None, 2)


async def test_a_large_page_is_read_in_parts(imports: Imports) -> None:
    (imports.cloud.folder / "acme.toml").write_text(manifest("none"))
    imports.cloud.has(*(str(n) for n in range(2 * lists.ITEMS_AT_ONCE + 1)))
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["found"]) == (None, 2 * lists.ITEMS_AT_ONCE + 1)


async def test_a_list_of_more_devices_than_there_are_fails_the_run(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "ITEMS_MAX", 5)
    imports.cloud.has(*"abcdefg")
    assert "no end after 5 devices" in (await imports.sync(await imports.connector()))["error"]


async def test_a_token_that_ends_in_mid_list_is_renewed_there(imports: Imports) -> None:
    """The list goes on with the page that was refused; nothing comes twice."""
    bearer = 'kind = "bearer"\ntoken = "{token}"'
    renewable = 'kind = "client_credentials"\ntoken_url = "{url}/token"\nclient_id = "me"\nclient_secret = "{token}"'
    (imports.cloud.folder / "acme.toml").write_text(manifest("page").replace(bearer, renewable))
    tokens: list[str] = []
    asked: list[str] = []

    def before(request: web.Request, _: int) -> web.Response | None:
        if request.path == "/token":
            tokens.append(f"token {len(tokens)}")
            imports.cloud.token = tokens[-1]
            return web.json_response({"access_token": imports.cloud.token, "expires_in": 3600})
        asked.append(request.query["page"])
        if asked == ["1", "2", "3"]:
            imports.cloud.token = "ended"
        return None

    imports.cloud.before = before
    imports.cloud.has(*(str(n) for n in range(20)))
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["created"], run["skipped"]) == (None, 20, 0)
    assert asked == ["1", "2", "3", "3", "4", "5", "6", "7", "8"]
    assert len(tokens) == 2


async def test_a_cursor_that_leads_in_a_circle_fails_the_run(imports: Imports) -> None:
    (imports.cloud.folder / "acme.toml").write_text(manifest("cursor"))
    numbers = iter(range(10**6))
    imports.cloud.before = lambda *_: web.json_response(
        {"devices": [{"id": next(numbers), "name": "X"}], "next": "again"}
    )
    assert "leads in a circle" in (await imports.sync(await imports.connector()))["error"]


@pytest.mark.parametrize("paging", ["url", "link"])
async def test_a_next_page_on_another_host_is_not_asked(imports: Imports, paging: str) -> None:
    """Credentials stay where they belong."""
    (imports.cloud.folder / "acme.toml").write_text(manifest(paging))
    there = "http://127.0.0.2:1/devices"
    imports.cloud.before = lambda *_: web.json_response(
        {"devices": [], "next_url": there}, headers={"Link": f'<{there}>; rel="next"'}
    )
    assert "another host" in (await imports.sync(await imports.connector()))["error"]


async def test_patience_with_429_and_500(imports: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits as long as it is told, or a while; then all is well."""
    monkeypatch.setattr(requests, "FAILED_PAUSE_S", 0.5)
    monkeypatch.setattr(requests, "BUSY_PAUSE_S", 1.0)
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    monkeypatch.setattr(requests, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
    imports.cloud.has("one")
    imports.cloud.before = _pages(
        lambda: web.Response(status=429, headers={"Retry-After": "7"}),
        lambda: web.Response(status=429),
        lambda: web.Response(status=500),
        lambda: web.Response(status=503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        None,
    )
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["created"]) == (None, 1)
    waited = [seconds for seconds in slept if seconds >= 0.5]
    assert waited == pytest.approx([7.0, 2.0, 0.5, 4.0], rel=0.2)


async def test_egress_rules_hold_for_vendors_too(imports: Imports) -> None:
    """A manifest's URL may come from a setting: it must not lead inside, whatever it was when it was saved."""
    for url in ("http://10.0.0.1", "http://169.254.169.254", "http://[::1]", "ftp://x.example", "http://localhost.:1"):
        connector = await imports.connector()
        await imports.pool.execute("UPDATE cloud_connectors SET settings = $2 WHERE id = $1", connector, {"url": url})
        assert "must not be connected to" in (await imports.sync(connector))["error"]


@pytest.mark.parametrize(
    ("expression", "value", "found"),
    [
        ("a", {"a": 1}, 1),
        ("a.b", {"a": {"b": 2}}, 2),
        ("a.b", {"a": 1}, None),
        ("a", [1], None),
        ("a.b", None, None),
        ("a[0]", {"a": [3]}, 3),
        ('"a-b"', {"a-b": 4}, 4),
        ("a || b", {"b": 5}, 5),
        ("length(a)", {"a": 1}, None),
    ],
)
def test_getters_find_what_jmespath_does(expression: str, value: Any, found: Any) -> None:
    """Plain ones are looked up directly; what an expression cannot be applied to is not there."""
    assert expressions.getter(expression)(value) == found
