"""Commands from the owner's side: by definition, checked, scheduled, limited, cancelled."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from owners import Owner, ago, outbox

from gateway.stores.commands import sending
from schemas import ids, keys


async def test_a_command_goes_out_by_name_or_by_friendly_name(edge: Any, acme: Owner) -> None:
    """It is pending at once, the device is told, the event log too."""
    device_id = await acme.device()
    path = f"/devices/{device_id}/commands"
    status, command = await acme.ask("POST", f"/core/v1/organization{path}", {"command": "reboot"})
    assert status == 201
    assert (command["command"], command["friendly_name"], command["status"]) == ("reboot", "Restart", "pending")
    created, expires = (datetime.fromisoformat(command[name]) for name in ("created_at", "expires_at"))
    assert expires - created == timedelta(days=7)
    for words in (
        {"friendly_name": "Restart"},
        {"name": "reboot"},
        {"name": "reboot", "friendly_name": "", "file_id": ""},
        {"command": "reboot", "name": "reboot", "friendly_name": "Restart"},
    ):
        assert (await acme.call("POST", path, words))["command"] == "reboot", words
    assert await outbox(acme.pool) == [("commandUpdated", device_id)] * 5
    row = await acme.row(device_id)
    assert row["open_commands"] == 5
    assert b'"command":true' in await edge.services.redis.hget(keys.reply(row["shard"]), str(device_id))


async def test_parameters_that_fit_their_fields_are_sent(acme: Owner) -> None:
    """Each type takes its own values; an integer is a number."""
    path = f"/devices/{await acme.device()}/commands"
    full = {"level": 1, "gain": 2, "label": "é", "loud": False}
    for given in ({"level": -(2**63)}, full, {"level": 1, "gain": 0.5}):
        assert (await acme.call("POST", path, {"command": "tune", "extra_params": given}))["parameters"] == given


BAD_COMMANDS: list[tuple[dict[str, Any], str]] = [
    ({}, "Command can't be blank"),
    ({"command": "", "name": "", "friendly_name": ""}, "Command can't be blank"),
    ({"command": "reboot", "name": "tune"}, "Command and name are two words for the same"),
    ({"command": "reboot", "friendly_name": "Tune"}, "Command: the device's model has no such command with this"),
    ({"command": "fly"}, "Command: the device's model has no such command"),
    ({"friendly_name": "reboot"}, "Friendly name: the device's model has no such command"),
    ({"command": "reboot", "extra_params": {"x": 1}}, "Extra params.x is not a parameter of reboot"),
    ({"command": "tune"}, "Extra params.level can't be blank"),
    ({"command": "tune", "extra_params": {"level": True}}, "Extra params.level must be a 64-bit integer"),
    ({"command": "tune", "extra_params": {"level": 1.0}}, "Extra params.level must be a 64-bit integer"),
    ({"command": "tune", "extra_params": {"level": 2**63}}, "Extra params.level must be a 64-bit integer"),
    ({"command": "tune", "extra_params": {"level": None}}, "Extra params.level must be a 64-bit integer"),
    ({"command": "tune", "extra_params": {"level": 1, "gain": "1"}}, "Extra params.gain must be a number"),
    ({"command": "tune", "extra_params": {"level": 1, "label": 1}}, "Extra params.label must be a string"),
    ({"command": "tune", "extra_params": {"level": 1, "loud": 1}}, "Extra params.loud must be true or false"),
    ({"command": "tune", "extra_params": [1]}, "Extra params: Expected object, got array"),
    ({"command": "reboot", "file_id": str(ids.new_id())}, "File not found"),
    ({"command": "reboot", "scheduled_at": "2020-01-01T00:00:00Z"}, "Scheduled at must be in the future"),
    ({"command": "reboot", "scheduled_at": "9999-12-31T23:59:59-12:00"}, "Scheduled at must be in the future"),
    ({"command": "reboot", "scheduled_at": "2099-01-01T00:00:00"}, "Scheduled at: Expected datetime"),
    ({"command": "a\0"}, "Command: "),
]


async def test_a_command_that_does_not_fit_is_422(acme: Owner) -> None:
    """The refusal names what to change, and nothing is sent."""
    path = f"/devices/{await acme.device()}/commands"
    for body, text in BAD_COMMANDS:
        status, error = await acme.call("POST", path, body)
        assert (status, error[: len(text)]) == (422, text), body
    assert await acme.pool.fetchval("SELECT count(*) FROM commands") == 0


async def test_a_command_that_needs_a_file_is_refused_without_one(acme: Owner) -> None:
    """A definition may ask for a file."""
    await acme.call("POST", f"/models/{acme.model_id}/commands", {"name": "flash", "needs_file": True})
    answer = await acme.call("POST", f"/devices/{await acme.device()}/commands", {"command": "flash"})
    assert answer == (422, "File id can't be blank: this command needs a file")


async def test_a_command_is_sent_while_it_is_active_and_one_of_its_options_is_chosen(acme: Owner) -> None:
    """What is not active, and what is none of the options, is refused by name."""
    definitions = f"/models/{acme.model_id}/commands"
    mode = {"name": "mode", "options": ["day", "night"]}
    made = await acme.call("POST", definitions, {"name": "switch", "fields": [mode]})
    path = f"/devices/{await acme.device()}/commands"
    assert await acme.call("POST", path, {"command": "switch", "extra_params": {"mode": "noon"}}) == (
        422,
        "Extra params.mode must be one of day, night",
    )
    night = {"command": "switch", "extra_params": {"mode": "night"}}
    assert (await acme.call("POST", path, night))["status"] == "pending"
    await acme.call("PATCH", f"{definitions}/{made['id']}", {"active": False})
    assert await acme.call("POST", path, night) == (422, "Command: switch is not active")


async def test_a_command_that_allows_no_several_is_sent_once_the_one_before_has_ended(acme: Owner) -> None:
    """Scheduled ones count; other devices and other commands do not."""
    await acme.call("POST", f"/models/{acme.model_id}/commands", {"name": "calibrate", "several": False})
    device_id, other = await acme.device(), await acme.device()
    path = f"/devices/{device_id}/commands"
    later = {"command": "calibrate", "scheduled_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    first = await acme.call("POST", path, later)
    refused = (409, "The device has a command calibrate that has not ended")
    assert await acme.call("POST", path, {"command": "calibrate"}) == refused
    for where, command in ((path, "reboot"), (f"/devices/{other}/commands", "calibrate")):
        assert (await acme.call("POST", where, {"command": command}))["status"] == "pending"
    await acme.call("DELETE", f"{path}/{first['id']}")
    assert (await acme.call("POST", path, {"command": "calibrate"}))["status"] == "pending"


async def test_a_scheduled_command_waits_and_lives_seven_days_from_its_time(acme: Owner) -> None:
    """The device is not told before."""
    device_id = await acme.device()
    at = datetime.now(UTC) + timedelta(days=10)
    body = {"command": "reboot", "scheduled_at": at.isoformat()}
    command = await acme.call("POST", f"/devices/{device_id}/commands", body)
    assert command["status"] == "scheduled"
    assert datetime.fromisoformat(command["scheduled_at"]) == at
    assert datetime.fromisoformat(command["expires_at"]) == at + timedelta(days=7)
    assert (await acme.row(device_id))["open_commands"] == 0


async def test_a_device_has_a_limit_of_open_commands(acme: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full means later: 429, scheduled ones count too, and room comes back when one ends."""
    monkeypatch.setattr(sending, "OPEN_MAX", 2)
    path = f"/devices/{await acme.device()}/commands"
    later = {"command": "reboot", "scheduled_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    first = await acme.call("POST", path, later)
    await acme.call("POST", path, {"command": "reboot"})
    for body in (later, {"command": "reboot"}):
        assert await acme.call("POST", path, body) == (429, "A device has at most 2 open commands")
    await acme.call("DELETE", f"{path}/{first['id']}")
    assert (await acme.call("POST", path, {"command": "reboot"}))["status"] == "pending"


async def test_scheduled_and_pending_commands_can_be_cancelled(acme: Owner) -> None:
    """They become aborted, the device is not told of them any more, the log is."""
    device_id = await acme.device()
    path = f"/devices/{device_id}/commands"
    later = {"command": "reboot", "scheduled_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    for body in ({"command": "reboot"}, later):
        command = await acme.call("POST", path, body)
        cancelled = await acme.call("DELETE", f"{path}/{command['id']}")
        assert (cancelled["id"], cancelled["status"]) == (command["id"], "aborted")
        assert cancelled["finished_at"] is not None
        answer = await acme.call("DELETE", f"{path}/{command['id']}")
        assert answer == (409, "Command is aborted: only a scheduled or pending command can be cancelled")
    assert (await acme.row(device_id))["open_commands"] == 0
    assert await outbox(acme.pool) == [("commandUpdated", device_id)] * 4


BEGUN = ["in_progress", "done", "failed"]


async def test_a_command_that_was_begun_cannot_be_cancelled(acme: Owner) -> None:
    """409 says what it is."""
    path = f"/devices/{await acme.device()}/commands"
    command = await acme.call("POST", path, {"command": "reboot"})
    for status in BEGUN:
        await acme.pool.execute("UPDATE commands SET status = $1", status)
        text = f"Command is {status.replace('_', ' ')}: only a scheduled or pending command can be cancelled"
        assert await acme.call("DELETE", f"{path}/{command['id']}") == (409, text)


async def test_a_command_is_known_by_its_own_device_only(acme: Owner) -> None:
    """The path has to be right as a whole."""
    device_id, other = await acme.device(), await acme.device()
    command = await acme.call("POST", f"/devices/{device_id}/commands", {"command": "reboot"})
    assert await acme.call("DELETE", f"/devices/{other}/commands/{command['id']}") == (404, "Command not found")


async def test_commands_are_listed_newest_first_by_status_and_page(acme: Owner) -> None:
    """Pages follow each other without gap, also while new commands come."""
    path = f"/devices/{await acme.device()}/commands"
    sent = [(await acme.call("POST", path, {"command": "reboot"}))["id"] for _ in range(5)]
    await acme.call("DELETE", f"{path}/{sent[2]}")
    first = await acme.call("GET", path, per_page=2)
    assert [command["id"] for command in first["items"]] == [sent[4], sent[3]]
    assert (first["has_next_page"], first["next_page"]) == (True, 2)
    await acme.call("POST", path, {"command": "reboot"})
    second = await acme.call("GET", path, per_page=2, page=2)
    assert [command["id"] for command in second["items"]] == [sent[2], sent[1]]
    aborted = await acme.call("GET", path, status="aborted", per_page=500)
    assert [command["id"] for command in aborted["items"]] == [sent[2]]
    assert (aborted["has_next_page"], aborted["next_page"]) == (False, None)
    assert (await acme.call("GET", path, per_page=501))[0] == 422
    assert (await acme.call("GET", path, status="lost"))[0] == 422


async def test_a_later_definition_leaves_a_sent_command_alone(acme: Owner) -> None:
    """A command keeps name, parameters and time limit it was sent with."""
    path = f"/devices/{await acme.device()}/commands"
    await acme.call("POST", path, {"command": "reboot"})
    definition = next(
        one for one in (await acme.call("GET", f"/models/{acme.model_id}/commands"))["items"] if one["name"] == "reboot"
    )
    await acme.call("DELETE", f"/models/{acme.model_id}/commands/{definition['id']}")
    assert [one["command"] for one in (await acme.call("GET", path))["items"]] == ["reboot"]
    assert await acme.pool.fetchval("SELECT created_at > $1 FROM commands", ago(minutes=1))
