"""Manifests are files that people change while everything runs, and break."""

import os
from pathlib import Path
from typing import Any

import pytest
from imports import Imports
from vendors import manifest

from gateway.operations import findings
from schemas.manifests import catalog


def _unreadable(path: Path) -> None:
    path.symlink_to("nowhere")


BROKEN: dict[str, Any] = {
    "not TOML": 'title = "Acme',
    "an unknown member": manifest().replace("items =", "itms ="),
    "an expression that is none": manifest().replace('"devices"', '"devices["'),
    "a function that there is not": manifest().replace('"devices"', '"every(devices)"'),
    "a function without its arguments": manifest().replace('"devices"', '"sort_by(devices)"'),
    "an unknown setting": manifest().replace("{url}", "{host}"),
    "not UTF-8": b'title = "\xff"',
    "empty": "",
    "nothing but a folder": lambda path: path.mkdir(),
    "a link to nowhere": _unreadable,
    "nested too deeply": "a = " + "[" * 5000 + "]" * 5000,
}


def _break(imports: Imports, name: str, how: str) -> None:
    path, content = imports.cloud.folder / f"{name}.toml", BROKEN[how]
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_manifest_is_skipped_and_named(imports: Imports, how: str) -> None:
    """Every other vendor's connectors go on, and are made; the API and `doctor` say which one it is, and why."""
    connector = await imports.connector()
    _break(imports, "broken", how)
    imports.cloud.has("one")
    assert (await imports.sync(connector))["created"] == 1
    providers = {found["id"]: found for found in await imports.acme.call("GET", "/connectors/providers")}
    assert "broken.toml" in providers["broken"]["error"]
    assert providers["acme"]["error"] is None
    assert len(providers) == len(catalog.available()) + 2
    body = {"provider": "broken", "project_id": str(imports.acme.project_id), "space_id": str(imports.acme.space_id)}
    status, sentence = await imports.acme.call("POST", "/connectors", body)
    assert (status, "broken.toml" in sentence) == (422, True)


async def test_doctor_names_what_is_skipped(imports: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says that all is well where it is."""
    monkeypatch.setenv("FLEETGATE_MANIFESTS", str(imports.cloud.folder))
    assert [finding.good async for finding in findings.readable_manifests()] == [True]
    _break(imports, "broken", "not TOML")
    [finding] = [finding async for finding in findings.readable_manifests()]
    assert (finding.good, "broken.toml" in finding.text) == (False, True)
    monkeypatch.setenv("FLEETGATE_MANIFESTS", "/nowhere")
    assert [finding.good async for finding in findings.readable_manifests()] == [False, True]


async def test_a_manifest_that_breaks_stops_its_own_connectors_in_words_and_goes_on_when_mended(
    imports: Imports,
) -> None:
    """No restart; devices stay as they are."""
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.sync(connector)
    was = await imports.devices(connector)
    _break(imports, "acme", "not TOML")
    assert "acme.toml: " in (await imports.sync(connector))["error"]
    assert await imports.devices(connector) == was
    (imports.cloud.folder / "acme.toml").write_text(manifest("offset"))
    assert (await imports.sync(connector))["error"] is None


async def test_an_operators_broken_manifest_is_not_replaced_by_ours(imports: Imports) -> None:
    """It may lead elsewhere, on purpose."""
    _break(imports, "zoom_rooms", "not TOML")
    assert "zoom_rooms" not in catalog.available(str(imports.cloud.folder))


async def test_new_and_changed_files_are_seen_at_once(imports: Imports) -> None:
    """By edge and worker alike; a change of the same length within the same tick of the clock too."""
    path = imports.cloud.folder / "second.toml"
    path.write_text(manifest())
    imports.cloud.has("one")
    connector = await imports.connector(provider="second")
    assert (await imports.sync(connector))["created"] == 1
    before = path.stat()
    path.write_text(manifest().replace("Acme Cloud", "Acme Clubs"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert catalog.available(str(imports.cloud.folder))["second"].title == "Acme Clubs"
    path.unlink()
    assert "There is no manifest second" in (await imports.sync(connector))["error"]
    providers = [found["id"] for found in await imports.acme.call("GET", "/connectors/providers")]
    assert "second" not in providers
