"""Every setting of a data connector that clients may send is in the one table that sets them."""

import msgspec
from msgspec import Struct

from gateway.v2.data_connector_settings import SETTINGS, Change, DeliveryChange, HttpConfigChange, OtherTypes

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
