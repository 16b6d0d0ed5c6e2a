"""The documentation page says of every call what it takes, what it answers, and how it is made by hand."""

import re
from html import unescape

import pytest

from gateway.api import docs, openapi
from gateway.app import ENDPOINTS


@pytest.fixture(scope="module")
def page() -> str:
    """The page as it is served."""
    return docs.page(openapi.document(ENDPOINTS, "0"))


def call(page: str, operation: str) -> str:
    """What the page says of one call, as text."""
    found = re.search(rf'<details id="{operation}".*?</details>', page, re.DOTALL)
    assert found is not None
    return unescape(re.sub("<[^>]*>", " ", found[0]))


def test_each_kind_of_credential_is_shown_as_it_is_given(page: str) -> None:
    """Keys of devices and tenants alone in the header; accounts by key and secret, or by a token."""
    account = call(page, "v2_organizations_list_projects")
    assert '-u "$KEY_ID:$SECRET"  # or -H "Authorization: Bearer $TOKEN"' in account
    assert '-H "Authorization: $ORGANIZATION_KEY"' in call(page, "organization_devices_list_devices")
    assert '-H "Authorization: $DEVICE_KEY"' in call(page, "device_config_read_config")
    assert "Authorization" not in call(page, "device_registration_register")
    assert "$ACCOUNT" not in page


def test_forms_are_described_and_sent_as_forms(page: str) -> None:
    """The token URL takes no JSON."""
    shown = call(page, "v2_tokens_issue")
    assert "TokenRequest (application/x-www-form-urlencoded)" in shown
    assert '--data-urlencode "assertion=$ASSERTION"' in shown
    assert "body.json" not in shown


def test_streams_are_described(page: str) -> None:
    """What a line holds, in which media types, and a command that does not buffer."""
    shown = call(page, "v2_stream_stream_events")
    assert "Said (application/x-ndjson or text/event-stream)" in shown
    for member in ("eventType", "targetName", "timestamp"):
        assert member in shown
    assert 'curl -N -X GET "$URL/v2/projects/${project}/devices:stream"' in shown


def test_structs_within_structs_are_described_too(page: str) -> None:
    """At any depth, once for each call."""
    shown = call(page, "v2_data_connectors_create_connector")
    assert "signatureSecret" in shown
    assert shown.count("HttpConfigChange ") > 0
    assert 'curl -X POST "$URL/v2/projects/${project}/dataconnectors"' in shown
