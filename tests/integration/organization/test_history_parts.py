"""A page of history looks at so many events at most; whoever reads all pages sees all that is asked for."""

import itertools
import random
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec import Raw
from owners import Owner, ago
from projects import account_of

from gateway.api.paging import TOO_DEEP
from gateway.stores.events import examining, telemetry_history
from schemas import ids

BASE = ago(hours=2).replace(microsecond=0)
EXAMINED, PIECES, MESSAGES = 12, 5, 160


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "EXAMINED_MAX", EXAMINED)
    monkeypatch.setattr(examining, "PIECES", PIECES)
    monkeypatch.setattr(telemetry_history, "FEW_DEVICES", 2)


async def fill(tenant: Owner) -> list[dict[str, Any]]:
    """Messages and other events of devices in two projects and three spaces, many of them of the same second."""
    project = await tenant.call("POST", "/projects", {"name": "Other"})
    shelf = {"project_id": str(tenant.project_id), "name": "Shelf", "parent_id": str(tenant.space_id)}
    elsewhere = {"project_id": project["id"], "name": "Elsewhere"}
    made = [await tenant.call("POST", "/spaces", body) for body in (shelf, elsewhere)]
    spaces = [tenant.space_id, *(UUID(one["id"]) for one in made)]
    devices = [
        await tenant.device(space_id=spaces[n % 3], name="Door" if n in (1, 2) else "Hatch" if n < 6 else "")
        for n in range(8)
    ]
    rows, chosen = [], random.Random(7)
    for n in range(MESSAGES):
        device = await tenant.row(devices[min(chosen.randrange(8), chosen.randrange(8))])
        told = {"status": chosen.choice(["online"] * 9 + ["error"]), "telemetries": {"n": n}}
        at = BASE + timedelta(seconds=n // 5)
        kind = "telemetry" if chosen.random() < 0.8 else "touch"
        rows.append((device["shard"], n, kind, device["id"], device["project_id"], at, {"telemetry": told}))
    await tenant.pool.executemany(
        """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
           VALUES ($1, $2, now(), $3, $4, $5, $6, $7)""",
        rows,
    )
    within = {devices[n]: n % 3 for n in range(8)}
    names = {one: (await tenant.row(one))["name"] for one in devices}
    return [
        {"n": n, "at": at, "device": one, "space": within[one], "name": names[one], **data["telemetry"]}
        for _, n, kind, one, _, at, data in rows
        if kind == "telemetry"
    ]


async def walk(tenant: Owner, **query: Any) -> tuple[list[int], list[int]]:
    """The numbers of all messages, page after page; and how many each page held."""
    found: list[int] = []
    sizes: list[int] = []
    page: int | None = 1
    while page is not None:
        answer = await tenant.call("GET", "/devices/histories", page=page, **query)
        assert answer["has_next_page"] == (answer["next_page"] is not None)
        assert answer["next_page"] in (None, page + 1)
        found += [item["telemetries"]["n"] for item in answer["items"]]
        sizes.append(len(answer["items"]))
        page = answer["next_page"]
    return found, sizes


async def test_all_pages_together_are_what_was_asked_for(acme: Owner) -> None:
    """Each message once, newest first, however it is narrowed: by status, by space, by name, by device, together."""
    told = await fill(acme)
    spaces = {one["name"]: one["id"] for one in (await acme.call("GET", "/spaces"))["items"]}
    space_numbers = {"Hall": {0, 1}, "Shelf": {1}, "Elsewhere": {2}}
    device = told[0]["device"]
    filters = itertools.product(
        (None, "error"), (None, "Hall", "Shelf", "Elsewhere"), (None, "Door", "Hatch", "None"), (None, device)
    )
    for per_page, (status, space, name, one) in zip(itertools.cycle((3, 50, 7)), filters, strict=False):
        query = {"status": status, "space_id": spaces.get(space), "name": name, "device_id": one}
        expected = {
            message["n"]
            for message in told
            if (status is None or message["status"] == status)
            and (space is None or message["space"] in space_numbers[space])
            and (name is None or message["name"] == name)
            and (one is None or message["device"] == one)
        }
        query = {key: value for key, value in query.items() if value is not None}
        found, sizes = await walk(acme, per_page=per_page, **query)
        assert sorted(found) == sorted(expected), query
        assert [n // 5 for n in found] == sorted((n // 5 for n in found), reverse=True), query
        assert max(sizes) <= min(per_page, EXAMINED)


async def test_the_vendor_and_the_project_read_all_of_a_device_too(acme: Owner) -> None:
    """By page number, and by page token also of single types: a page that shows none leads on."""
    told = await fill(acme)
    device_id = Counter(one["device"] for one in told).most_common(1)[0][0]
    expected = sorted((one["n"] for one in told if one["device"] == device_id), reverse=True)
    found, page = [], 1
    while page:
        answer = await acme.partner("GET", f"/devices/{device_id}/history", page=page, per_page=50)
        found += [item["telemetries"]["n"] for item in answer["items"]]
        page = answer["next_page"]
    assert sorted(found, reverse=True) == expected
    user = await account_of(acme, "project.user")
    row = await acme.row(device_id)
    path = f"/v2/projects/{row['project_id']}/devices/{ids.device_name(device_id)}/events"
    for kind, least in (("telemetry", len(expected)), ("contact", 0)):
        token, events, answers = "", [], 0
        while token or not answers:
            status, answer = await user.ask("GET", f"{path}?event_types={kind}&page_token={token}")
            assert status == 200
            events += answer["events"]
            token, answers = answer["nextPageToken"], answers + 1
        assert len(events) == least
        assert answers > 1


async def test_a_jump_is_not_looked_for_further_than_a_page_looks(acme: Owner) -> None:
    """What lies before it may be many events further back; who reads the pages in order comes there."""
    await fill(acme)
    await acme.call("GET", "/devices/histories", per_page=3)
    for query in ({"page": 9, "per_page": 3}, {"page": 2, "per_page": 2, "status": "error"}):
        assert await acme.call("GET", "/devices/histories", **query) == (422, TOO_DEEP)


async def test_a_status_is_found_however_a_device_wrote_it(acme: Owner) -> None:
    """JSON lets letters be written as escapes; the same word elsewhere in a message is no status."""
    device = await acme.row(await acme.device())
    texts = (b'"st\\u0061tus":"err\\u006fr"', b'"status":"error"', b'"status":"online","message":"error"')
    for seq, text in enumerate(texts):
        await acme.pool.execute(
            """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
               VALUES ($1, $2, now(), 'telemetry', $3, $4, $5, $6)""",
            *(device["shard"], seq, device["id"], device["project_id"], BASE + timedelta(seconds=seq)),
            Raw(b'{"telemetry":{%b,"telemetries":{"n":%d}}}' % (text, seq)),
        )
    assert (await walk(acme, status="error"))[0] == [1, 0]
