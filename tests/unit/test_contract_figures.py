"""The figures that the contracts name, each where it is kept: a limit that is moved is moved on purpose."""

from datetime import timedelta

import pytest

from gateway.api import openapi
from gateway.api.callers.devices import DEVICE, DOWNLOADER
from gateway.app import ENDPOINTS
from gateway.device import device, registration
from gateway.device import telemetry as many_messages
from gateway.organization import histories
from gateway.stores.commands import sending
from gateway.stores.devices import replacement
from gateway.stores.licenses import vendor_side
from schemas import bounds, incidents, telemetry
from schemas.settings import EdgeSettings, WorkerSettings
from tests.conftest import MASTER_KEY

STORES = {"postgres_dsn": "postgresql://x", "redis_url": "redis://x", "master_key": MASTER_KEY}
EDGE, WORKER = EdgeSettings(**STORES), WorkerSettings(**STORES)


@pytest.mark.parametrize(
    ("line", "kept", "figure"),
    [
        ("a message is at most 128 KiB", telemetry.BODY_BYTES_MAX, 128 * 1024),
        ("a string of at most 1,000 bytes", telemetry.STRING_BYTES_MAX, 1_000),
        ("a timestamp over 24 h ahead is 422", telemetry.AHEAD_MAX, timedelta(hours=24)),
        ("at most 25 registrations at once", registration.BULK_MAX, 25),
        ("at most 100 messages at once", many_messages.MESSAGES_MAX, 100),
        ("10 calls of PUT an hour", (device.PUTS_MAX, device.PUTS_WINDOW_S), (10, 3600)),
        ("default 30 calls in 30 s, by model", bounds.RATE_LIMIT.default, 30),
        ("a command's timeout, default 10 min", bounds.COMMAND_TIMEOUT_S.default, 600),
        ("one never fetched expires after 7 days", sending.EXPIRES_AFTER, timedelta(days=7)),
        ("a sweep every 30 s", WORKER.sweep_interval_s, 30),
        ("data of a licence is at most 16 KiB", vendor_side.DATA_BYTES_MAX, 16 * 1024),
        ("a file of up to 2 GiB", EDGE.file_bytes_max, 2 * 2**30),
        ("dumps of 64 MiB each", EDGE.dump_bytes_max, 64 * 2**20),
        ("20 dumps a device", EDGE.dumps_max, 20),
        ("dumps are kept for 30 days", WORKER.dumps_days, 30),
        ("priorities 1 to 5", incidents.PRIORITIES, ("critical", "high", "moderate", "low", "planning")),
        ("the owner confirms within 24 h", replacement.RETURN_WITHIN, timedelta(hours=24)),
        ("histories of at most 31 days", histories.RANGE_MAX, timedelta(days=31)),
        ("histories of at most 1,000 a page", histories.PER_PAGE_MAX, 1_000),
    ],
)
def test_a_figure_of_the_contract_is_kept(line: str, kept: object, figure: object) -> None:
    """By default, where it is a setting."""
    assert kept == figure, line


def test_no_call_of_a_device_is_answered_403() -> None:
    """Agents in the field forget their keys on 401 or 403, of whatever URL."""
    document = openapi.document(ENDPOINTS, "0")["paths"]
    of_devices = [one for one in ENDPOINTS if one.caller in (DEVICE, DOWNLOADER)]
    assert len(of_devices) > 30
    for one in of_devices:
        assert "403" not in document[one.path][one.method.lower()]["responses"], one
    # Whatever the document says: nothing that a device's kind of caller does is a matter of permissions.
    assert [one for one in of_devices if one.permission is not None] == []
