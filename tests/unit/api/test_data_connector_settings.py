"""Every setting of a data connector is in the one table that sets them, and in all that follows from it."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Struct

from gateway.permissions import Permission
from gateway.stores.connectors import data_connectors
from gateway.v2.data_connector_settings import (
    SETTINGS,
    Change,
    DeliveryChange,
    Draft,
    HttpConfigChange,
    OtherTypes,
    Setting,
    shown,
    without_secrets,
)
from schemas.egress import EgressPolicy
from schemas.secrets import Vault
from schemas.settings import EdgeSettings
from workers.dispatcher.request import Target

MIGRATIONS = "".join(
    path.read_text()
    for path in sorted((Path(__file__).parent.parent.parent.parent / "schemas" / "migrations").glob("*.sql"))
)
GROUPS: dict[str, type[Struct]] = {"http_config": HttpConfigChange, "delivery": DeliveryChange}


def test_each_member_of_a_change_is_one_setting() -> None:
    """With its group before it; nothing is listed twice."""
    members = [
        f"{outer.name}.{inner.name}" if outer.name in GROUPS else outer.name
        for outer in msgspec.structs.fields(Change)
        if outer.name not in OtherTypes.__struct_fields__
        for inner in (msgspec.structs.fields(GROUPS[outer.name]) if outer.name in GROUPS else [outer])
    ]
    assert [setting.path for setting in SETTINGS] == members


def test_each_setting_reads_its_own_member() -> None:
    """A change that says something of one member says nothing of the others."""
    for setting in SETTINGS:
        outer, _, inner = setting.path.partition(".")
        value = object()
        change = Change(**{outer: GROUPS[outer](**{inner: value}) if inner else value})
        given = {other.path for other in SETTINGS if other.given(change) is not msgspec.UNSET}
        assert given == {setting.path}
        assert setting.given(change) is value


COLUMNS = {setting.column for setting in SETTINGS} - {""}
NOT_OF_DELIVERIES = {"display_name"}
"""Columns that say nothing of how events are delivered."""


def test_each_setting_is_a_column_that_is_stored() -> None:
    """By `create` and `update`, which take their columns from the store's list."""
    assert set(data_connectors.SETTABLE) == COLUMNS


@pytest.mark.parametrize("trigger", ["follow_change", "tell"])
def test_a_change_of_each_setting_reaches_the_dispatchers(trigger: str) -> None:
    """One trigger counts the connector's revision up, one tells of it; each lists the columns that it looks at."""
    statements = re.findall(
        rf"TRIGGER {trigger}\s(?:(?!CREATE).)*?UPDATE OF (.*?)\sON data_connectors\b", MIGRATIONS, re.DOTALL
    )
    assert set(re.split(r",\s+", statements[-1].strip())) >= COLUMNS - NOT_OF_DELIVERIES


def test_the_dispatcher_reads_each_setting() -> None:
    """But for the status: only active connectors are read."""
    vault, policy = Vault("00" * 32, "tests"), EgressPolicy("")
    read: set[str] = set()

    class Row(dict[str, Any]):
        def __getitem__(self, column: str) -> Any:
            read.add(column)
            return super().__getitem__(column)

    connector = data_connectors.new(UUID(int=1))
    others = {"previous_secret": b"", "revision": 1, "organization_id": UUID(int=2)}
    Target.of_row(Row(msgspec.structs.asdict(connector) | others), vault, policy)
    assert COLUMNS - NOT_OF_DELIVERIES - {"status"} <= read


VALUES: dict[str, Any] = {
    "display_name": "Other",
    "status": "USER_DISABLED",
    "events": ["touch"],
    "labels": ["floor"],
    "http_config.url": "https://receiver.example/other",
    "http_config.signature_secret": "secret-of-16-and-more",
    "http_config.headers": {"X-Other": "1"},
    "delivery.asymmetric_signature": True,
    "delivery.standard_webhooks": True,
    "delivery.retry_window_seconds": 60,
    "delivery.max_in_flight": 7,
}


@pytest.mark.parametrize(
    "setting", [setting for setting in SETTINGS if setting.column], ids=lambda setting: setting.path
)
def test_each_setting_is_stored_and_shown(setting: Setting) -> None:
    """Setting it changes its column, and what clients are shown under its path, and nothing else of either."""
    services: Any = SimpleNamespace(
        settings=EdgeSettings(postgres_dsn="postgresql://x", redis_url="redis://x", master_key="00" * 32)
    )
    scope: Any = SimpleNamespace(permissions=frozenset(Permission))
    before = data_connectors.new(UUID(int=1))
    after = msgspec.structs.replace(before)
    setting.put(Draft(services, after), VALUES[setting.path])
    assert _differences(before, after) == {setting.column}
    assert _differences(shown(services, before, scope), shown(services, after, scope)) == {setting.path}


def _differences(before: Any, after: Any) -> set[str]:
    """The paths of members that two structs differ in."""
    paths = set()
    for name in before.__struct_fields__:
        one, other = getattr(before, name), getattr(after, name)
        if isinstance(one, Struct):
            paths |= {f"{name}.{path}" for path in _differences(one, other)}
        elif one != other:
            paths.add(name)
    return paths


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com", "https://hooks.example.com"),
        ("https://hooks.example.com/", "https://hooks.example.com/"),
        ("https://user:pass@hooks.example.com:8443", "https://hooks.example.com:8443"),
        ("https://a@b@hooks.example.com/services/T0/B1/secret", "https://hooks.example.com/…"),
        ("https://[2001:db8::1]:8443?sig=secret", "https://[2001:db8::1]:8443/…"),
        ("https://hooks.example.com/#secret", "https://hooks.example.com/…"),
    ],
)
def test_of_a_url_whoever_only_reads_sees_the_host(url: str, shown: str) -> None:
    """Users, paths, queries and fragments are where receivers keep their secrets."""
    assert without_secrets(url) == shown
