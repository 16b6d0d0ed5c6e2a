"""Vendors answer in their own ways: one device's text never costs the list, and what they mean is understood."""

import gzip
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from imports import Imports
from vendors import manifest

from workers.importer import decoding, leases, requests, retry_after, vendor


def _write(imports: Imports, kind: str = "page", *, total: bool = False, changed: tuple[str, str] = ("", "")) -> None:
    assert changed[0] in manifest(kind, total=total)
    (imports.cloud.folder / "acme.toml").write_text(manifest(kind, total=total).replace(*changed))


# Text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "name"),
    [
        (rb'{"devices": [{"id": "1", "name": "A\ud83d"}, {"id": "2"}]}', "application/json", "A?"),
        (rb'{"devices": [{"id": "1", "name": "\udc00"}, {"id": "2"}]}', "application/json", "?"),
        (b'{"devices": [{"id": "1", "name": "K\xf8k"}, {"id": "2"}]}', "application/json", "K\ufffdk"),
        (b'{"devices": [{"id": "1", "name": "K\xf8k"}, {"id": "2"}]}', "text/json; charset=ISO-8859-1", "Køk"),
        (b'{"devices": [{"id": "1", "name": "K\xf8k"}, {"id": "2"}]}', "text/json; charset=nonsense", "K\ufffdk"),
        (b'\xef\xbb\xbf{"devices": [{"id": "1", "name": "A"}, {"id": "2"}]}', "application/json", "A"),
        ('{"devices": [{"id": "1", "name": "Køk"}, {"id": "2"}]}'.encode("utf-16"), "application/json", "Køk"),
        (b'{"devices": [{"id": "1", "name": "A\tB"}, {"id": "2"}]}', "application/json", "A\tB"),
        (b'{"devices": [{"id": "1", "name": "A", "x": 1e999}, {"id": "2"}]}', "application/json", "A"),
        (b'{"devices": [{"id": "1", "name": "A", "x": NaN}, {"id": "2"}]}', "application/json", "A"),
        (b'{"devices": [{"id": "1", "name": "A", "x": ' + b"9" * 5000 + b'}, {"id": "2"}]}', "application/json", "A"),
        (rb'{"devices": [{"id": "1", "name": "A\u0000B"}, {"id": "2"}]}', "application/json", "AB"),
        (rb'{"devices": [{"id": "1", "name": "A", "serial": "\ud800"}, {"id": "2"}]}', "application/json", "A"),
    ],
)
async def test_one_devices_text_does_not_cost_the_list(imports: Imports, body: bytes, kind: str, name: str) -> None:
    """Half characters, bytes of another character set, raw tabs, numbers beyond all bounds."""
    _write(imports, "none")
    imports.cloud.before = lambda *_: web.Response(body=body, headers={"Content-Type": kind})
    connector = await imports.connector()
    run = await imports.sync(connector)
    assert (run["error"], run["created"]) == (None, 2)
    assert (await imports.devices(connector))["1"]["name"] == name


async def test_an_id_of_half_a_character_is_skipped(imports: Imports) -> None:
    """Two such ids would be one."""
    _write(imports, "none")
    body = rb'{"devices": [{"id": "a\ud83d"}, {"id": "a\ud83e"}, {"id": "b"}]}'
    imports.cloud.before = lambda *_: web.Response(body=body, headers={"Content-Type": "application/json"})
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["created"], run["skipped"]) == (None, 1, 2)


@pytest.mark.parametrize(
    ("body", "kind", "sentence"),
    [
        (b"<p>", "text/html", "is not JSON but text/html"),
        (b'{"devices": [', "application/json", "is not JSON: Expecting value in line 1, column 14"),
        (b"", "application/json", "is not JSON: Expecting value in line 1, column 1"),
        (b"[" * 100_000, "application/json", "is not JSON: it is nested too deeply"),
    ],
)
async def test_what_is_said_of_an_answer_that_is_no_json_is_true(
    imports: Imports, body: bytes, kind: str, sentence: str
) -> None:
    imports.cloud.before = lambda *_: web.Response(body=body, headers={"Content-Type": kind})
    assert sentence in (await imports.sync(await imports.connector()))["error"]


# Pauses -----------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 27, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["120"], 120),
        ([" 120 "], 120),
        (["90.5"], 90.5),
        (["30,120"], 120),
        (["30, 120"], 120),
        (["30", "120"], 120),
        (["120s"], 120),
        (["+7"], 7),
        (["0"], 0),
        (["-5"], 0),
        (["Fri, 27 Nov 2026 10:02:00 GMT"], 120),
        (["Friday, 27-Nov-26 10:02:00 GMT"], 120),
        (["Fri Nov 27 10:02:00 2026"], 120),
        (["2026-11-27T10:02:00Z"], 120),
        (["2026-11-27T11:02:00+01:00"], 120),
        (["2026-11-27T10:02:00"], 120),
        ([str(int(NOW.timestamp()) + 120)], 120),
        ([str((int(NOW.timestamp()) + 120) * 1000)], 120),
        (["Thu, 26 Nov 2026 10:02:00 GMT"], 0),
        (["9" * 400], 86400),
        (["Fri, 27 Nov 2099 10:02:00 GMT"], 86400),
        (["soon"], None),
        (["²"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_pause_is_understood_in_every_form(lines: list[str], seconds: float | None) -> None:
    assert retry_after.seconds(lines, None, NOW) == seconds


def test_a_date_is_told_by_the_vendors_own_clock() -> None:
    """One that is ten minutes slow means the same two minutes."""
    told = retry_after.seconds(["Fri, 27 Nov 2026 09:52:00 GMT"], "Fri, 27 Nov 2026 09:50:00 GMT", NOW)
    assert told == 120


def _pausing(seconds: int) -> Any:
    return lambda *_: web.Response(status=429, headers={"Retry-After": str(seconds)})


async def test_a_pause_holds_across_runs_previews_and_restarts(imports: Imports) -> None:
    """Nobody asks before it is over, whatever a person wants meanwhile; and it is shown when that will be."""
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.sync(connector)
    imports.cloud.before = _pausing(3600)
    assert "pause of 3600 s" in (await imports.sync(connector))["error"]
    imports.cloud.before, asked = None, len(imports.cloud.asked)
    # A worker that starts now knows of it too: it claims nothing.
    await imports.acme.call("POST", f"/connectors/{connector}/sync")
    assert await leases.claim(imports.pool, imports.holder, 10) == []
    shown = datetime.fromisoformat((await imports.shown(connector))["next_sync_at"])
    assert shown > datetime.now(UTC) + timedelta(minutes=58)
    run_id = await imports.pool.fetchval(
        "INSERT INTO cloud_runs (connector_id, kind) VALUES ($1, 'preview') RETURNING id", connector
    )
    [(_, claimed)] = await leases.claim_previews(imports.pool, imports.holder, 10)
    await imports.runs.run(claimed, run_id)
    await leases.release(imports.pool, imports.holder, claimed)
    assert "is to be asked again in 3" in (await imports.last_run(connector))["error"]
    assert len(imports.cloud.asked) == asked
    imports.clock.move(hours=1)
    await imports.pool.execute("UPDATE cloud_connectors SET rest_until = now()")
    assert (await imports.sync(connector))["error"] is None


async def test_a_slow_pace_holds_across_runs(imports: Imports) -> None:
    """One call in five minutes: it is written down before the call is made, so that no crash forgets it."""
    _write(imports, "none", changed=("requests_per_s = 1000.0", "requests_per_s = 0.0033"))
    imports.cloud.has("one")
    connector = await imports.connector()
    known: list[datetime] = []

    async def before(*_: Any) -> None:
        known.append(await imports.pool.fetchval("SELECT rest_until FROM cloud_connectors"))

    imports.cloud.before = before
    assert (await imports.sync(connector))["created"] == 1
    assert known[0] > datetime.now(UTC) + timedelta(minutes=4)
    await imports.acme.call("POST", f"/connectors/{connector}/sync")
    assert await leases.claim(imports.pool, imports.holder, 10) == []


# Pages ------------------------------------------------------------------------------------------------------


def _past_the_end(imports: Imports, refusal: Any) -> Any:
    def before(request: web.Request, _: int) -> Any:
        start = int(request.query.get("skip", (int(request.query.get("page", 1)) - 1) * 3))
        return None if start < max(1, len(imports.cloud.devices)) else refusal()

    return before


REFUSALS: dict[str, Any] = {
    "404": lambda: web.json_response({"error": "no such page"}, status=404),
    "400": lambda: web.json_response({"error": "no such page"}, status=400),
    "422": lambda: web.json_response({"error": "no such page"}, status=422),
    "204": lambda: web.Response(status=204),
    "nothing": lambda: web.Response(),
    "an empty object": lambda: web.json_response({}),
    "an error with 200": lambda: web.json_response({"error": "no such page"}),
    "null": lambda: web.json_response(None),
    "null in place of the list": lambda: web.json_response({"devices": None}),
    "an empty list": lambda: web.json_response({"devices": []}),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("count", [1, 3, 6, 7])
@pytest.mark.parametrize("kind", ["page", "offset"])
async def test_the_end_is_understood_however_it_is_said(imports: Imports, kind: str, count: int, refusal: str) -> None:
    """A page past the last is refused by some vendors, and empty with others."""
    _write(imports, kind)
    imports.cloud.has(*(f"d{n}" for n in range(count)))
    imports.cloud.before = _past_the_end(imports, REFUSALS[refusal])
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["found"]) == (None, count)


@pytest.mark.parametrize("status", [200, 400, 404])
@pytest.mark.parametrize("kind", ["page", "offset"])
async def test_a_refusal_in_mid_list_takes_no_device(imports: Imports, kind: str, status: int) -> None:
    """Behind a full page it may be a failure: nothing that the list lacks is gone."""
    _write(imports, kind)
    names = [f"d{n}" for n in range(12)]
    imports.cloud.has(*names)
    connector = await imports.connector()
    await imports.sync(connector)

    def before(request: web.Request, _: int) -> Any:
        start = int(request.query.get("skip", (int(request.query.get("page", 1)) - 1) * 3))
        return web.json_response({"error": "busy"}, status=status) if start >= 6 else None

    imports.cloud.before = before
    run = await imports.sync(connector)
    assert run["excluded"] == 0
    assert run["error"] or "refusal behind a full page" in run["details"]["nothing_excluded"][0]
    assert set(await imports.devices(connector, state="active")) == set(names)


@pytest.mark.parametrize("status", [404, 500])
async def test_a_first_page_that_is_refused_is_a_failure(imports: Imports, status: int) -> None:
    imports.cloud.before = lambda *_: web.json_response({}, status=status)
    assert f"answered {status}" in (await imports.sync(await imports.connector()))["error"]


@pytest.mark.parametrize("last", [False, None, "", 0])
@pytest.mark.parametrize("kind", ["cursor", "url"])
async def test_a_cursor_that_means_no_ends_the_list(imports: Imports, kind: str, last: Any) -> None:
    """`false` is not a page of that name."""
    _write(imports, kind)
    imports.cloud.before = lambda *_: web.json_response({"devices": [{"id": 1}], "next": last, "next_url": last})
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["found"], len(imports.cloud.asked)) == (None, 1, 1)


@pytest.mark.parametrize("cursor", [True, [1], {"a": 1}])
async def test_a_cursor_that_no_request_can_name_fails_the_run(imports: Imports, cursor: Any) -> None:
    _write(imports, "cursor")
    imports.cloud.before = lambda *_: web.json_response({"devices": [{"id": 1}], "next": cursor})
    assert "neither text nor a number at `next`" in (await imports.sync(await imports.connector()))["error"]


@pytest.mark.parametrize("cursor", ["0012", "12", 12, "a&b=c", "00", "1e3"])
async def test_a_cursor_comes_back_in_a_body_as_it_was_given(imports: Imports, cursor: Any) -> None:
    """Text stays text, and a number one."""
    _write(imports, "cursor", changed=('items = "devices"', 'items = "devices"\nmethod = "POST"'))
    asked: list[Any] = []

    async def before(request: web.Request, _: int) -> web.Response:
        asked.append((await request.json()).get("after"))
        return web.json_response({"devices": [{"id": len(asked)}], "next": cursor if len(asked) == 1 else None})

    imports.cloud.before = before
    assert (await imports.sync(await imports.connector()))["found"] == 2
    assert asked == [None, cursor]
    assert type(asked[1]) is type(cursor)


@pytest.mark.parametrize("kind", ["url", "link"])
async def test_a_next_link_may_be_long(imports: Imports, kind: str) -> None:
    """Some carry the state of a whole query."""
    _write(imports, kind)
    there = f"/devices?state={'x' * 6000}"

    def before(request: web.Request, _: int) -> web.Response:
        if "state" in request.query:
            return web.json_response({"devices": [{"id": 2}]})
        return web.json_response({"devices": [{"id": 1}], "next_url": there}, headers={"Link": f"<{there}>; rel=next"})

    imports.cloud.before = before
    run = await imports.sync(await imports.connector())
    assert (run["error"], run["found"]) == (None, 2)


def test_a_next_link_that_forgets_the_proxy_stays_on_tls() -> None:
    """Programs behind one name themselves with http; a fragment is none of the vendor's business."""
    assert vendor.joined("https://api.example/a", "http://api.example/b?page=2#x") == "https://api.example/b?page=2"
    for elsewhere in ("http://api.example:8080/b", "http://other.example/b", "ftp://api.example/b"):
        with pytest.raises(vendor.VendorError, match="another host"):
            vendor.joined("https://api.example/a", elsewhere)


@pytest.mark.parametrize("status", [403, 500, 502])
async def test_whoever_names_a_time_asks_for_a_pause(imports: Imports, status: int) -> None:
    """And refuses no credentials, whatever the number is."""
    imports.cloud.before = lambda *_: web.Response(status=status, headers={"Retry-After": "3600"})
    connector = await imports.connector()
    run = await imports.sync(connector)
    assert run["error"] == "The vendor asks for a pause of 3600 s"
    assert (await imports.shown(connector))["status"] == "Active"


@pytest.mark.parametrize("vendor_id", ["a/b", "a?b=c", "a#b", "50%", "a b", "a%2Fb", "æ", "a+b", "a;b", "//x"])
async def test_an_id_is_one_part_of_a_path(imports: Imports, vendor_id: str) -> None:
    """Whatever characters it has."""
    text = manifest()
    (imports.cloud.folder / "acme.toml").write_text(
        text[: text.index("[telemetry]")]
        + '[telemetry]\n[telemetry.list]\npath = "/devices/{id}/values"\nitems = "[@]"\n'
        + '[telemetry.values]\nt = "t"\n'
    )
    imports.cloud.devices = [{"id": vendor_id, "name": "X"}]
    asked: list[str] = []

    def before(request: web.Request, _: int) -> Any:
        if request.path == "/devices":
            return None
        asked.append(request.rel_url.raw_path)
        assert not request.query_string
        return web.json_response({"t": 1})

    imports.cloud.before = before
    connector = await imports.connector()
    await imports.sync(connector)
    await imports.pool.execute("UPDATE cloud_connectors SET inventory_at = NULL, telemetry_at = now()")
    [claimed] = await leases.claim(imports.pool, imports.holder, 10)
    await imports.runs.run(claimed)
    assert (await imports.last_run(connector))["found"] == 1
    [path] = asked
    assert [unquote(part) for part in path.split("/")] == ["", "devices", vendor_id, "values"]


async def test_names_in_a_nested_body_are_filled_and_the_vendors_own_stay(imports: Imports) -> None:
    """`{id}` and `{name}` of a GraphQL query are no settings."""
    query = (
        '\n[list.body]\nquery = "{ devices {name} {id} }"\n[list.body.variables]\nkey = "{token}"\nall = ["{name}"]\n'
    )
    _write(imports, "none", changed=('items = "devices"', 'items = "devices"\nmethod = "POST"'))
    path = imports.cloud.folder / "acme.toml"
    path.write_text(path.read_text().replace("[device]", query + "[device]"))
    sent: list[Any] = []

    async def before(request: web.Request, _: int) -> web.Response:
        sent.append(await request.json())
        return web.json_response({"devices": [{"id": 1}]})

    imports.cloud.before = before
    assert (await imports.sync(await imports.connector()))["error"] is None
    assert sent == [{"query": "{ devices {name} {id} }", "variables": {"key": imports.cloud.token, "all": ["{name}"]}}]


async def test_a_vendor_of_a_slow_pace_is_not_asked_again_at_once(imports: Imports) -> None:
    """A failure of its server waits for the pace too, and is what is told."""
    _write(imports, "none", changed=("requests_per_s = 1000.0", "requests_per_s = 0.0033"))
    imports.cloud.before = lambda *_: web.Response(status=500)
    assert "answered 500" in (await imports.sync(await imports.connector()))["error"]
    assert len(imports.cloud.asked) == 1


# Bounds -----------------------------------------------------------------------------------------------------


async def test_an_answer_that_would_fill_the_memory_is_not_decoded(imports: Imports) -> None:
    """A few kilobytes of gzip, and then 700 MiB of objects."""
    body = gzip.compress(b'{"devices":[' + b",".join([b"{}"] * 10_000_000) + b"]}")
    assert len(body) < 50_000
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    imports.cloud.before = lambda *_: web.Response(body=body, headers=headers)
    run = await imports.sync(await imports.connector())
    assert "too large: it holds too many values" in run["error"]


@pytest.mark.parametrize("value", [b"{}", b"[]", b'{"a":1}', b"1000", b'"a"', b"[[]]"])
def test_values_of_every_kind_count(value: bytes) -> None:
    """What they take as objects is many times their text."""
    with pytest.raises(decoding.TooLargeError):
        decoding.check_size(b",".join([value] * (30_000_000 // (len(value) + 1))))


def test_a_large_list_of_devices_is_decoded() -> None:
    """As many as fit into the bytes of an answer."""
    device = b'{"id":"0123456789ab","name":"Room 12","serial":"S-0001234","mac":"00:11:22:33:44:55","model":"X1",'
    device += b'"firmware":"1.2.3","site":"Oslo","floor":"3","online":true,"temperature":21.5,"people":4}'
    decoding.check_size(b",".join([device] * (requests.ANSWER_BYTES_MAX // (len(device) + 1))))
