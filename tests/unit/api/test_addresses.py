"""Whom an edge takes for its callers: whether there is a proxy before it that it does not know of."""

from typing import Any

import pytest

from gateway.api.addresses import NAMED, unnamed_proxy
from gateway.operations import findings

BEHIND: dict[str, Any] = {"bind": "0.0.0.0:8080", "public_url": "https://gateway.example", "tls": False}


def test_an_edge_whose_callers_use_https_and_that_speaks_http_has_a_proxy_to_be_named() -> None:
    """Else all callers have one address, and what is limited by address is one limit for all of them."""
    sentence = unnamed_proxy({}, **BEHIND)
    assert sentence is not None
    assert f"set {NAMED}" in sentence


@pytest.mark.parametrize(
    ("environ", "fact"),
    [
        ({NAMED: "10.0.0.7"}, {}),
        ({}, {"tls": True}),
        ({}, {"public_url": ""}),
        ({}, {"public_url": "http://gateway.example"}),
        ({}, {"bind": "127.0.0.1:8080"}),
        ({}, {"bind": "[::1]:8080"}),
    ],
)
def test_where_there_is_none_or_it_is_named_or_on_this_machine_all_is_well(
    environ: dict[str, str], fact: dict[str, Any]
) -> None:
    """One on this machine is believed anyway."""
    assert unnamed_proxy(environ, **BEHIND | fact) is None


async def test_the_doctor_says_it_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what devices are told."""
    monkeypatch.delenv(NAMED, raising=False)
    monkeypatch.setenv("FLEETGATE_BIND", BEHIND["bind"])
    monkeypatch.setenv("FLEETGATE_PUBLIC_URL", BEHIND["public_url"])
    found = [finding async for finding in findings.addresses()]
    assert [finding.good for finding in found] == [True, False]
    assert NAMED in found[1].text
