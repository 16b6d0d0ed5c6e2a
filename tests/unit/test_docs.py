"""What the documentation shows is so."""

import ast
import hashlib
import importlib
import re
from pathlib import Path

import jwt
import pytest

from gateway.cli.simulated.receiver import verified
from schemas.environment import GROUPS, variables
from schemas.signing import checksums, symmetric_token

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "receivers.md").read_text()
TERMS = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
PLACES = sorted({place for _, text in TERMS for place in re.findall(r"`((?:gateway|workers|schemas)[.\w]*)`", text)})
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_test_vector_for_receivers_is_right() -> None:
    """Body, secret, token and checksum belong together, and our own tokens are made like it."""
    found = re.search(r"```json\n(.*)\n```", PAGE)
    assert found is not None
    body = found[1].encode()
    vector = dict(re.findall(r"^(secret|token|sha256) +(.*)$", PAGE, re.MULTILINE))
    claims = jwt.decode(vector["token"], vector["secret"], algorithms=["HS256"], options={"verify_exp": False})
    assert claims["checksum_sha256"] == vector["sha256"] == hashlib.sha256(body).hexdigest()
    ours = jwt.decode(
        symmetric_token(vector["secret"].encode(), checksums(body), claims["iat"]),
        vector["secret"],
        algorithms=["HS256"],
        options={"verify_exp": False},
    )
    assert {**ours, "jti": ""} == {**claims, "jti": ""}


def test_a_receiver_refuses_what_is_old_or_changed() -> None:
    """By the five lines that the page shows."""
    secret, body = "x" * 32, b"{}"
    now_s = 4_000_000_000
    token = symmetric_token(secret.encode(), checksums(body), now_s)
    claims = jwt.decode(token, secret, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False})
    assert claims["exp"] - claims["iat"] == 3600
    fresh = jwt.encode({"checksum_sha256": checksums(body).sha256, "exp": now_s}, secret, "HS256")
    old = jwt.encode({"checksum_sha256": checksums(body).sha256, "exp": 1}, secret, "HS256")
    assert verified(body, fresh, secret)
    assert not verified(body + b" ", fresh, secret)
    assert not verified(body, fresh, "y" * 32)
    assert not verified(body, old, secret)
    assert not verified(body, "", secret)


@pytest.mark.parametrize("place", PLACES)
def test_the_glossary_names_places_that_exist(place: str) -> None:
    """A package, a module, or a name in one."""
    try:
        importlib.import_module(place)
    except ModuleNotFoundError:
        module, _, name = place.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


def test_the_glossary_explains_each_term_once_and_says_where_it_lives() -> None:
    """In one line each."""
    terms = [term for term, _ in TERMS]
    assert len(terms) > 50
    assert sorted(set(terms)) == sorted(terms)
    assert [term for term, text in TERMS if "`" not in text] == []


def test_the_architecture_names_files_that_exist() -> None:
    """Paths in it are paths of the repository, below a package or in full."""
    paths = set(re.findall(r"`((?:gateway|workers|schemas|tests|docs)/[\w/.]*)`", ARCHITECTURE))
    assert len(paths) > 15
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_the_security_page_lists_every_promise_in_the_words_of_its_tests() -> None:
    """A line for each file of the folder, with the first line of its docstring; and settings that there are."""
    page = (ROOT / "docs" / "security.md").read_text()
    listed = dict(re.findall(r"^\| (.+) \| \[.+\]\(\.\./tests/security/(test_\w+)\.py\) \|$", page, re.MULTILINE))
    files = (ROOT / "tests" / "security").glob("test_*.py")
    promises = {(ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0]: file.stem for file in files}
    assert listed == promises
    known = {name for group in GROUPS for name in variables(group)}
    assert set(re.findall(r"FLEETGATE_[A-Z_]+", page)) <= known
    links = re.findall(r"\]\((\S+?)(?:#\S+)?\)", page)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
