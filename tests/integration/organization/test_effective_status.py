"""The one status that people are shown."""

from typing import Any

from owners import NOW, Owner

TABLE: list[tuple[str, str | None, bool, list[tuple[int, str]], str | None]] = [
    ("ok", "online", False, [], None),
    ("ok", None, False, [], None),
    ("ok", "online", False, [], "online"),
    ("offline", "online", True, [], None),
    ("offline", "offline", False, [], None),
    ("offline", "online", True, [(3, "offline")], None),
    ("warning", "online", False, [(4, "leak")], None),
    ("warning", "offline", True, [(5, "leak")], None),
    ("error", "error", False, [], None),
    ("error", "online", False, [(3, "leak")], None),
    ("error", "online", True, [(5, "leak"), (1, "fire"), (3, "offline")], None),
    ("disconnected", "error", True, [(1, "leak")], "silent"),
    ("disconnected", "online", False, [], "offline"),
]


async def test_the_first_match_wins(acme: Owner) -> None:
    """never_seen, disconnected, error, warning, offline, ok: in this order, the offline incident set apart."""
    for expected, status, offline, incidents, parent in TABLE:
        parent_id: Any = None
        if parent is not None:
            parent_id = await acme.device()
            await acme.seen(parent_id, "online" if parent == "silent" else parent, offline=parent == "silent")
        device_id = await acme.device(parent_id=parent_id)
        await acme.seen(device_id, status, offline=offline)
        for priority, issue in incidents:
            await acme.incident(device_id, priority, issue, kind="rule" if issue == "offline" else "device")
        await acme.incident(device_id, 1, "closed", closed_at=NOW)
        shown = [await api("GET", f"/devices/{device_id}") for api in (acme.call, acme.partner)]
        assert [one["effective_status"] for one in shown] == [expected] * 2, (status, offline, incidents, parent)


async def test_a_device_without_a_call_was_never_seen(acme: Owner) -> None:
    """Not even an incident or a parent that is away says more about it."""
    parent = await acme.device()
    await acme.seen(parent, "offline", offline=True)
    device_id = await acme.device(parent_id=parent)
    await acme.incident(device_id, 1)
    device = await acme.call("GET", f"/devices/{device_id}")
    assert (device["effective_status"], device["last_seen_at"], device["state"]) == ("never_seen", None, {})
