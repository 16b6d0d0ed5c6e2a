"""All endpoints are reachable, each at its own address."""

import importlib
import itertools
import pkgutil
import re

import gateway
from gateway.api.endpoint import Endpoint
from gateway.app import ENDPOINTS
from gateway.permissions import Permission
from gateway.portal.pages import PAGES


def test_every_endpoint_that_is_defined_is_served() -> None:
    """Whoever adds one cannot forget to list it."""
    defined: dict[int, Endpoint] = {}
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if module.name != "gateway.__main__":
            found = [one for one in vars(importlib.import_module(module.name)).values() if isinstance(one, Endpoint)]
            defined |= {id(face): face for one in found for face in one.faces}
    served = (*ENDPOINTS, *PAGES)
    assert [endpoint for endpoint in defined.values() if endpoint not in served] == []
    assert len(served) == len(set(served)) == len(defined)


def test_no_endpoint_is_shadowed_by_one_before_it() -> None:
    """An address whose fixed words an earlier pattern takes for an id would never be reached."""
    shadowed = []
    for earlier, later in itertools.combinations((*ENDPOINTS, *PAGES), 2):
        example = re.sub(r"{\w+}", "00000000-0000-4000-8000-000000000000", later.path)
        if earlier.method == later.method and earlier.route().path_regex.match(example):
            shadowed.append(f"{later} by {earlier}")
    assert shadowed == []


def test_every_change_by_a_tenant_asks_for_more_than_to_read() -> None:
    """A scope with a permission is what every call of `/core` and `/v2` acts in, or else it looks itself."""
    reading = (Permission.BELONG, Permission.READ)
    assert [e for e in ENDPOINTS if e.method != "GET" and e.permission in reading] == []
    assert [e for e in ENDPOINTS if e.path.startswith("/core/") and e.permission is None] == []


def test_a_post_of_which_nothing_is_required_may_have_no_body() -> None:
    """And no other: a change that says nothing, or a claim without a proof, is a slip."""
    optional = {f"{one.method} {one.path}" for one in ENDPOINTS if one.body_optional}
    assert "POST /core/v1/organization/devices/{device_id}/rotate_key" in optional
    assert "POST /v2/projects/{project}/serviceaccounts" in optional
    assert not [call for call in optional if not call.startswith("POST ")]
    assert "POST /core/v1/organization/devices/claim" not in optional
