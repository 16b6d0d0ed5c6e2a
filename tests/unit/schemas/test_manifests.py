"""Manifests: what is wrong with one is told with its line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.manifests import parsing
from schemas.manifests.parsing import ManifestError

PAGE = (Path(__file__).parent.parent.parent.parent / "docs" / "manifests.md").read_text()
GOOD = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]


def test_the_manifest_that_the_documentation_shows_is_one() -> None:
    manifest = parsing.parse(GOOD, "acme.toml")
    assert (manifest.title, manifest.list.total, manifest.consents) == ("Acme", "meta.total", False)


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ('items = "data"', 'items = "data["', "line 13: list.items: Invalid jmespath expression"),
        ('items = "data"', 'itms = "data"', "line 13: list: "),
        ('kind = "bearer"', 'kind = "barer"', "line 8: authentication.kind: Invalid value 'barer'"),
        (
            'token = "{token}"',
            'token = "{tokn}"',
            "line 9: authentication.token: there is no setting or credential tokn",
        ),
        (
            'path = "/devices"',
            'path = "/{tenant}/devices"',
            "line 12: list.path: there is no setting or credential tenant",
        ),
        ('id = "uuid"', "id = 7", "line 22: device.id: Expected `str`, got `int`"),
        ('label = "API token"', 'label = "API token"\npattern = "("', "line 6: credentials.token.pattern: "),
        ('title = "Acme"', 'title = "Acme', "acme.toml: Illegal character"),
        ('title = "Acme"\n', "", "line 1: the manifest: Object missing required field `title`"),
        ('parameter = "page"', 'parameter = "page"\nsize = 0', "line 19: list.paging.size: Expected `int` >= 1"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(was: str, now: str, told: str) -> None:
    assert was in GOOD
    with pytest.raises(ManifestError) as error:
        parsing.parse(GOOD.replace(was, now, 1), "acme.toml")
    assert told in str(error.value)


LIST = 'path = "/devices"\nitems = "data"\ntotal = "meta.total"\n'
LOOP = """path = "/sites/{site}/devices"
items = "data"
[list.for_each]
path = "/sites"
items = "sites"
values = {site = "id"}
"""


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ('site = "id"', 'site = "id["', "line 17: list.for_each.values.site: Invalid jmespath"),
        ('site = "id"', 'seat = "id"', "line 12: list.path: there is no setting or credential site"),
        (
            'site = "id"',
            'site = "id", token = "id"',
            "line 17: list.for_each.values.token: a setting or credential has",
        ),
        (
            '"/sites/{site}',
            '"https://{site}.example/',
            "line 12: list.path: site is of the vendor's answers, and no answer",
        ),
        ('"/sites"', '"/sites/{site}"', "line 15: list.for_each.path: there is no setting or credential site"),
        (
            'kind = "bearer"\ntoken = "{token}"\n',
            'kind = "login"\npath = "/{id}"\ntoken = "t"\n',
            "authentication.path: there is no setting or credential id",
        ),
        (
            'kind = "bearer"\ntoken = "{token}"',
            'kind = "login"\npath = "/login"',
            "line 7: authentication: one of token and token_header says where the token is",
        ),
        (
            'kind = "bearer"\ntoken = "{token}"',
            'kind = "hmac"\nsecret = "x"\ntext = "{signature}"\nheaders = {}',
            "authentication.text: there is no setting or credential signature",
        ),
        (
            'kind = "bearer"\ntoken = "{token}"',
            'kind = "login"\npath = "/login"\ntoken = "t"\n[[authentication.steps]]\npath = "/{a}"\nvalues = {a = "a"}',
            "line 12: authentication.steps.path: there is no setting or credential a",
        ),
        (
            "[telemetry]",
            '[detail]\npath = "/{uuid}"\n[telemetry]',
            "detail.path: there is no setting or credential uuid",
        ),
    ],
)
def test_what_answers_fill_is_checked_too(was: str, now: str, told: str) -> None:
    """A name must be known where it stands, and no answer of a vendor leads to another host."""
    assert LIST in GOOD
    looped = GOOD.replace(LIST, LOOP)
    parsing.parse(looped, "acme.toml")
    assert was in looped
    with pytest.raises(ManifestError) as error:
        parsing.parse(looped.replace(was, now, 1), "acme.toml")
    assert told in str(error.value)


def test_the_json_schema_is_printed() -> None:
    printed = subprocess.run([sys.executable, "-m", "schemas.manifests"], capture_output=True, check=True, text=True)
    assert {"Manifest", "Listing", "AuthorizationCode"} <= set(json.loads(printed.stdout)["$defs"])
