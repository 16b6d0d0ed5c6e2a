"""Tickets of owners and partners, and owners' notes. Contract: the lines "Tickets", "Notes", GET `/devices/notes`."""

from typing import Any
from uuid import UUID

import pytest
from owners import Owner

from gateway.stores.incidents import notes, tickets
from schemas import ids


@pytest.fixture
async def shared(acme: Owner, globex: Owner) -> UUID:
    """A device of Acme's, of a model that Globex makes."""
    await acme.trusts(globex)
    return await acme.device(model_id=globex.model_id)


async def as_partner(owner: Owner, method: str, path: str, body: Any = None) -> Any:
    """A call of the partner API with a body; its JSON, or status and error."""
    status, answer = await owner.ask(method, f"/core/v1/partner{path}", body, owner.partner_key)
    return answer if status in (200, 201) else (status, answer["error"])


async def test_a_ticket_is_made_from_an_incident_and_shared_by_owner_and_partner(
    acme: Owner, globex: Owner, shared: UUID
) -> None:
    """Made from an incident; GET one with `comments[] {id, text, created_at, system, user}`; POST `/message`."""
    incident = await acme.call("POST", "/incidents", {"device_id": str(shared), "title": "Leak", "description": "oil"})
    made = await acme.call("POST", "/tickets", {"incident_id": incident["id"]})
    assert (made["title"], made["description"], made["device_id"]) == ("Leak", "oil", str(shared))
    assert (await acme.call("GET", f"/incidents/{incident['id']}"))["ticket_id"] == made["id"]
    assert await acme.call("POST", "/tickets", {"incident_id": incident["id"]}) == (409, tickets.HAS_ONE)
    address = f"/tickets/{made['id']}"
    assert await as_partner(globex, "GET", address) == await acme.call("GET", address) == made
    await acme.call("POST", f"{address}/message", {"message": "Since Monday"})
    told = await as_partner(globex, "POST", f"{address}/message", {"message": "We send a seal"})
    assert await acme.call("GET", address) == told
    assert [(one["text"], one["system"], one["user"].split()[0]) for one in told["comments"]] == [
        ("Made from an incident", True, "owner"),
        ("Since Monday", False, "owner"),
        ("We send a seal", False, "partner"),
    ]
    assert set(told["comments"][0]) == {"id", "text", "created_at", "system", "user"}


async def test_a_ticket_is_rewritten_and_resolved_by_either_side(acme: Owner, globex: Owner, shared: UUID) -> None:
    """PUT `{title, description}`, POST `/resolved`; the list has open ones only; what is resolved stays as it is."""
    made = [await acme.call("POST", "/tickets", {"device_id": str(shared), "title": f"T{n}"}) for n in range(3)]
    first, second, third = (f"/tickets/{one['id']}" for one in made)
    written = await as_partner(globex, "PUT", first, {"title": "Seal", "description": "sent"})
    assert (written["title"], written["description"]) == ("Seal", "sent")
    assert written["comments"][-1]["text"] == "Rewritten, was titled “T0”"
    assert await acme.call("PUT", first, {"title": "Seal", "description": "sent"}) == written
    resolved = await acme.call("POST", f"{first}/resolved")
    assert (resolved["resolved"], resolved["comments"][-1]["text"]) == (True, "Resolved")
    assert await as_partner(globex, "POST", f"{first}/resolved") == resolved
    assert (await as_partner(globex, "POST", f"{second}/resolved"))["resolved"]
    for key, call in ((acme, acme.call), (globex, None)):
        answer = await (call("GET", "/tickets") if call else as_partner(key, "GET", "/tickets"))
        assert [one["id"] for one in answer["items"]] == [made[2]["id"]]
    late = (409, "Ticket is resolved")
    assert await acme.call("PUT", first, {"title": "T", "description": ""}) == late
    assert await as_partner(globex, "POST", f"{first}/message", {"message": "?"}) == late
    assert await acme.call("GET", first) == resolved
    assert not (await acme.call("GET", third))["resolved"]


async def test_tickets_of_others_do_not_exist(acme: Owner, globex: Owner, shared: UUID) -> None:
    """To who is neither owner nor partner of the device; nor are a stranger's devices and incidents."""
    made = await acme.call("POST", "/tickets", {"device_id": str(shared), "title": "T"})
    unknown = (404, "Ticket not found")
    for ticket in (made["id"], ids.new_id()):
        for method, path, body in (
            ("GET", "", None),
            ("PUT", "", {"title": "x", "description": ""}),
            ("POST", "/resolved", None),
            ("POST", "/message", {"message": "x"}),
        ):
            assert await globex.call(method, f"/tickets/{ticket}{path}", body) == unknown
            assert await as_partner(acme, method, f"/tickets/{ticket}{path}", body) == unknown
    assert (await globex.call("GET", "/tickets"))["items"] == (await acme.partner("GET", "/tickets"))["items"] == []
    incident = await acme.incident(shared, 3)
    assert await globex.call("POST", "/tickets", {"incident_id": str(incident)}) == (404, "Incident not found")
    assert await globex.call("POST", "/tickets", {"device_id": str(shared), "title": "T"}) == (404, "Device not found")


async def test_what_is_no_ticket_is_refused(acme: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is about something and has a title; comments are no emptiness, and not without end."""
    device_id, other = await acme.device(), await acme.device()
    incident = str(await acme.incident(other, 3))
    for body in ({}, {"device_id": str(device_id)}, {"title": "T"}, {"device_id": str(device_id), "title": "x" * 256}):
        assert (await acme.call("POST", "/tickets", body))[0] == 422, body
    body = {"device_id": str(device_id), "incident_id": incident}
    assert await acme.call("POST", "/tickets", body) == (422, "Device id: the incident is of another device")
    made = await acme.call("POST", "/tickets", {"device_id": str(device_id), "title": "T"})
    for text in ("", "x" * 10_001, "a\0"):
        assert (await acme.call("POST", f"/tickets/{made['id']}/message", {"message": text}))[0] == 422
    monkeypatch.setattr(tickets, "COMMENTS_MAX", 2)
    assert (await acme.call("POST", f"/tickets/{made['id']}/message", {"message": "a"}))["comments"][1]["text"] == "a"
    full = (422, tickets.FULL)
    assert await acme.call("POST", f"/tickets/{made['id']}/message", {"message": "b"}) == full
    assert await acme.call("PUT", f"/tickets/{made['id']}", {"title": "U", "description": ""}) == full
    monkeypatch.setattr(tickets, "COMMENTS_MAX", 9)
    monkeypatch.setattr(tickets, "COMMENTS_BYTES_MAX", 8)  # "Made", "a"
    assert await acme.call("POST", f"/tickets/{made['id']}/message", {"message": "éé"}) == full
    assert len((await acme.call("POST", f"/tickets/{made['id']}/message", {"message": "abc"}))["comments"]) == 3


async def test_notes_about_devices_and_spaces(acme: Owner, globex: Owner) -> None:
    """GET, POST `{content}`, DELETE on devices and spaces; GET `/devices/notes` has those of all devices."""
    first, second = await acme.device(), await acme.device()
    places = {f"/devices/{first}": "a", f"/devices/{second}": "b", f"/spaces/{acme.space_id}": "c"}
    made = {}
    for place, content in places.items():
        made[place] = await acme.call("POST", f"{place}/notes", {"content": content})
        assert made[place]["content"] == content
        assert (await acme.call("GET", f"{place}/notes"))["items"] == [made[place]]
    all_notes = await acme.call("GET", "/devices/notes")
    assert [note["content"] for note in all_notes["items"]] == ["b", "a"]
    pages = [await acme.call("GET", "/devices/notes", page=page, per_page=1) for page in (1, 2)]
    assert [page["items"][0]["content"] for page in pages] == ["b", "a"]
    for place, note in made.items():
        kind = "Space" if "space" in place else "Device"
        for method, path, body in (("GET", "", None), ("POST", "", {"content": "x"})):
            assert await globex.call(method, f"{place}/notes{path}", body) == (404, f"{kind} not found")
        assert await globex.call("DELETE", f"{place}/notes/{note['id']}") == (404, "Note not found")
        other = f"/devices/{second}" if str(first) in place else f"/devices/{first}"
        assert await acme.call("DELETE", f"{other}/notes/{note['id']}") == (404, "Note not found")
        assert await acme.call("DELETE", f"{place}/notes/{note['id']}") == {"success": True}
        assert (await acme.call("GET", f"{place}/notes"))["items"] == []


async def test_notes_have_limits_and_do_not_go_with_the_device(
    acme: Owner, globex: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later owner does not read what the one before wrote down."""
    device_id = await acme.device()
    monkeypatch.setattr(notes, "NOTES_MAX", 1)
    for content in ("", "x" * 10_001, 7, "a\0"):
        assert (await acme.call("POST", f"/devices/{device_id}/notes", {"content": content}))[0] == 422
    await acme.call("POST", f"/devices/{device_id}/notes", {"content": "secret"})
    assert await acme.call("POST", f"/devices/{device_id}/notes", {"content": "b"}) == (422, notes.TOO_MANY)
    await acme.pool.execute(
        "UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4 WHERE id = $1",
        device_id, globex.organization_id, globex.project_id, globex.space_id,
    )  # fmt: skip
    assert (await globex.call("GET", f"/devices/{device_id}/notes"))["items"] == []
    assert (await globex.call("GET", "/devices/notes"))["items"] == []
