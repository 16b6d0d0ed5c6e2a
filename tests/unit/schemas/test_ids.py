"""Ids keep the order of making, whatever the clock does, and say when they were made."""

import time
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest

from schemas import ids


@pytest.fixture(autouse=True)
def other_tests_keep_their_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_ids", ids._Ascending(74))
    monkeypatch.setattr(ids, "_xids", ids._Ascending(64))


@pytest.mark.parametrize("new", [ids.new_id, ids.new_xid, ids.new_emulated_id])
def test_ids_made_in_a_row_ascend(new, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one tick of the clock, and when it is set back."""
    now = time.time()
    made = []
    for clock in (now, now, now - 3600, now, now + 1.0):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        made += [str(new()) for _ in range(200)]
    assert all(earlier < later for earlier, later in pairwise(made))


def test_an_id_is_a_uuid_of_its_version_and_tells_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 10.0
    monkeypatch.setattr(time, "time", lambda: later)
    for new, version in ((ids.new_id, 7), (ids.new_emulated_id, 8)):
        made = new()
        assert (UUID(str(made)).version, made.variant) == (version, RFC_4122)
    assert ids.new_id().int >> 80 == int(later * 1000)


def test_the_name_of_a_device_leads_back_to_its_id() -> None:
    for new in (ids.new_id, ids.new_emulated_id):
        made = new()
        assert ids.device_of_name(ids.device_name(made)) == made


def test_every_character_of_an_access_key_counts() -> None:
    """One that differs in any place is refused, and so is a part of one, and more than one."""
    keys, device_id = ids.AccessKeys("5a" * 32), str(ids.new_id())
    key = keys.issue(device_id, 7)
    assert keys.verify(device_id.encode(), key.encode())
    for place, character in enumerate(key):
        other = key[:place] + ("0" if character != "0" else "1") + key[place + 1 :]
        assert not keys.verify(device_id.encode(), other.encode()), place
    for length in range(32):
        assert not keys.verify(device_id.encode(), key[:length].encode())
    assert not keys.verify(device_id.encode(), key.encode() + b"0")
