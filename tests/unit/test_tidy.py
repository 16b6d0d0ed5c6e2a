"""The rules of the house, where no tool keeps them."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from gateway.app import ENDPOINTS
from schemas import environment

ROOT = Path(__file__).parent.parent.parent
TRACKED = [
    ROOT / name
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    if (ROOT / name).is_file()
]
MODULES = [path for path in TRACKED if path.suffix == ".py"]
SOURCES = [path for path in MODULES if path.parts[len(ROOT.parts)] in ("gateway", "workers", "schemas", "bench")]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_module_says_why_it_exists() -> None:
    """In its first line."""
    assert [name(p) for p in SOURCES if p.stat().st_size and not ast.get_docstring(ast.parse(p.read_text()))] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    """A reader finds the room from the question."""
    empty = {"utils", "helpers", "common", "manager", "base", "core", "misc"}
    assert [name(path) for path in MODULES if path.stem in empty or empty & set(path.relative_to(ROOT).parts)] == []


def test_words_that_stood_for_many_things_name_nothing() -> None:
    """What has a word of its own is called by it; members of what clients read keep their names."""
    vague, found = {"told", "Place", "keyed"}, []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.arg(arg=word) | ast.ClassDef(name=word):
                    found += [f"{name(path)}: {word}"] if word in vague else []
                case ast.FunctionDef(name=word) | ast.AsyncFunctionDef(name=word):
                    found += [f"{name(path)}: {word}"] if word in vague else []
    assert found == []


def test_sql_stands_only_where_it_belongs() -> None:
    """In stores, in the schema, and in the worker loop or command that is its sole user."""
    statement = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\b [\w*(]")
    homes = ("gateway/stores/", "gateway/cli/", "workers/", "schemas/", "bench/")
    # How the stores are: one statement each, beside the code that needs it.
    single = {f"gateway/operations/{one}.py" for one in ("findings", "health", "metrics")}
    strays = [name(p) for p in SOURCES if statement.search(_strings(p)) and not name(p).startswith(homes)]
    assert set(strays) <= single


@pytest.mark.parametrize(
    ("statement", "home"),
    [
        ("INTO event_outbox", "schemas/outbox.py"),
        ("devices SET deleted_at", "gateway/stores/devices/deletion.py"),
        (r"UPDATE devices( d)? SET space_id =", "schemas/device_trees.py"),
    ],
)
def test_what_has_one_home_is_done_nowhere_else(statement: str, home: str) -> None:
    """Appending to the outbox, deleting devices and moving them: each is one function that everybody calls."""
    assert [name(path) for path in SOURCES if re.search(statement, path.read_text())] == [home]


def _strings(path: Path) -> str:
    """The string literals of a module, without its docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and _documented(node)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs]
    return "\n".join(node.value for node in constants if isinstance(node.value, str))


def _documented(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return bool(node.body) and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)


def test_log_events_are_snake_case_words() -> None:
    """So that they can be searched for."""
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("logs.event", "logs.failure"):
                event = node.args[2]
                if not (isinstance(event, ast.Constant) and re.fullmatch(r"[a-z]+(_[a-z]+)+", str(event.value))):
                    wrong.append(f"{name(path)}: {ast.unparse(event)}")
    assert wrong == []


def test_nothing_is_left_for_later_in_comments() -> None:
    """An open end is finished, or written where it is read: the README."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    others = [path for path in MODULES if path != Path(__file__)]
    assert [name(path) for path in others if marks.search(path.read_text())] == []


def test_tracked_files_name_no_place_on_somebodys_machine() -> None:
    """Neither a home folder nor an index to download from."""
    places = re.compile(r"/(?:root|work|Users)/\w|/home/\w+/|index-url|--extra-index")
    readable = [
        path
        for path in TRACKED
        if path.suffix in (".py", ".md", ".toml", ".lock", ".sql", "") and path != Path(__file__)
    ]
    found = [name(path) for path in readable if places.search(path.read_text()) and path.name != "Makefile"]
    assert found == []


def test_the_readme_lists_the_settings_as_they_are() -> None:
    """`python -m schemas.settings` prints the table; it stands between the two marks."""
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"<!-- settings -->\n(.*)<!-- /settings -->", readme, re.DOTALL)
    assert found is not None
    assert found[1] == environment.table()


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=repr)
def test_an_endpoint_says_what_it_does(endpoint: object) -> None:
    """In one sentence, for the document and the page."""
    assert endpoint.summary.endswith(".")  # type: ignore[attr-defined]


def test_cursors_and_prepared_statements_are_left_to_the_boundary() -> None:
    """Their errors are not translated: `schemas.postgres.batches` reads a cursor."""
    boundary = "schemas/postgres_errors.py"
    calls = re.compile(r"connection\.(cursor|prepare)\(")
    assert [name(p) for p in SOURCES if calls.search(p.read_text()) and name(p) != boundary] == []


def test_libraries_whose_insides_the_hot_path_uses_have_an_upper_bound() -> None:
    """A version nobody tried is not installed; the comment names the tests that a newer one has to pass."""
    text = (ROOT / "pyproject.toml").read_text()
    for library in ("httptools", "starlette", "uvicorn"):
        assert re.search(rf'^    "{library}>=[\d.]+,<[\d.]+"', text, re.MULTILINE), library
    contract = re.search(r"tests/\S+\.py, the contract", text)
    assert contract is not None
    assert (ROOT / contract[0].partition(",")[0]).is_file()


def test_migrations_are_numbered_without_gaps() -> None:
    """One that came later under a lower number would be applied in another order to old databases than to new ones."""
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "schemas" / "migrations").glob("*.sql"))]
    assert numbers == list(range(1, len(numbers) + 1))
