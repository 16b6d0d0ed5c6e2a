"""Rules of the SQL: statements on the data plane name their shard and join nothing; devices are locked in order.

So the data plane can be spread over several servers by shard (see migration 0004). What stands in a statement is read
from string literals; parts that are put in from elsewhere are literals themselves, and keep the rule by themselves.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MIGRATIONS = sorted((ROOT / "schemas" / "migrations").glob("*.sql"))
MODULES = [path for folder in ("gateway", "workers", "schemas") for path in sorted((ROOT / folder).rglob("*.py"))]

DATA_PLANE = {"events", "device_state", "device_reported", "shards", "ingest_ledger", "ingest_quarantine"}
TABLES = {name for path in MIGRATIONS for name in re.findall(r"CREATE TABLE (\w+)", path.read_text())}

# What follows a keyword that names a table, or a comma in a list of them.
_READ = re.compile(r"\b(?:FROM|JOIN|USING|UPDATE)\s+(?:ONLY\s+|LATERAL\s+)?(\w+)")
_TABLE = r"(?:ONLY\s+)?\w+(?:\s+(?:AS\s+)?[a-z]\w*)?\s*"
_LISTED = re.compile(rf"\bFROM\s+{_TABLE}((?:,\s*{_TABLE})+)")
_INSERTED = re.compile(r"\bINSERT INTO\s+(\w+)(?:\s+AS\s+\w+)?\s*(\([^)]*\))?")
_NAMED = re.compile(r"\bshard\s*=\s*(?:\$\d+|ANY\s*\()")
_NAMED_BY_VARIABLE = re.compile(r"\bshard\s*=\s*(?:\$\d+|ANY\s*\(|n\b|place\.shard\b)")


def faults(statement: str, *, named: re.Pattern[str] = _NAMED) -> list[str]:
    """What is wrong with a statement; nothing is with one that leaves the data plane alone."""
    read = set(_READ.findall(statement))
    for listed in _LISTED.findall(statement):
        read |= {item.split()[0] for item in listed.split(",") if item.strip()}
    read &= TABLES
    inserted = dict(_INSERTED.findall(statement))
    wrong = [
        f"{table}: the rows of INSERT do not name their shard"
        for table, columns in inserted.items()
        if table in DATA_PLANE and not re.search(r"\bshard\b", columns)
    ]
    if not (read | inserted.keys()) & DATA_PLANE:
        return []
    # Rows may be copied out of the data plane into a table of the control plane: that joins nothing.
    joined = read if read & DATA_PLANE else read | (inserted.keys() & DATA_PLANE)
    if len(joined) > 1:
        wrong.append(f"{', '.join(sorted(joined))}: joined")
    if read & DATA_PLANE and len(named.findall(statement)) < len(_READ.findall(_only(statement))):
        wrong.append(f"{', '.join(sorted(read))}: read without `shard = $n` or `shard = ANY($n)`")
    return wrong


def _only(statement: str) -> str:
    """The statement with no other tables than those of the data plane to be found."""
    return _READ.sub(lambda found: found.group() if found.group(1) in DATA_PLANE else "", statement)


def literals(source: str) -> Iterator[str]:
    """The strings of a module, but docstrings; with a question mark where something is put in."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            inside.add(node.value)
        if isinstance(node, ast.JoinedStr):
            inside.update(part for part in node.values if isinstance(part, ast.Constant))
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else _put_in(part, constants) for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.value


def _put_in(part: ast.expr, constants: dict[str, str]) -> str:
    assert isinstance(part, ast.FormattedValue)
    return constants.get(part.value.id, "?") if isinstance(part.value, ast.Name) else "?"


def functions() -> dict[str, str]:
    """The bodies of the functions in PL/pgSQL and SQL, as the last migration leaves them."""
    function = re.compile(r"CREATE (?:OR REPLACE )?FUNCTION (\w+).*?\$\$(.*?)\$\$", flags=re.DOTALL)
    return {name: body for path in MIGRATIONS for name, body in function.findall(path.read_text())}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_statements_on_the_data_plane_name_their_shard_and_join_nothing(path: Path) -> None:
    """In every module of edges, workers and what they share."""
    found = [fault for text in literals(path.read_text()) for fault in faults(text)]
    assert found == []


@pytest.mark.parametrize("name", functions())
def test_functions_of_the_database_keep_the_rule_too(name: str) -> None:
    """Statement by statement, as they run; a loop over shards gives each its own."""
    statements = re.split(r";|\bLOOP\b|\bTHEN\b|\bBEGIN\b", functions()[name])
    found = [fault for text in statements for fault in faults(text, named=_NAMED_BY_VARIABLE)]
    assert found == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT next_seq FROM shards",
        "SELECT status FROM device_state WHERE device_id = $1",
        "SELECT d.id FROM devices d LEFT JOIN device_state s ON s.device_id = d.id WHERE s.shard = $1",
        "SELECT 1 FROM devices d, device_state s WHERE s.shard = $1 AND s.device_id = d.id",
        "SELECT 1 FROM events e WHERE e.shard = $1 AND e.device_id IN (SELECT id FROM devices)",
        "SELECT 1 FROM connector_positions p JOIN events e ON e.shard = p.shard",
        "UPDATE device_state s SET offline = true FROM devices d WHERE s.shard = $1 AND d.id = s.device_id",
        "UPDATE shards SET next_seq = 1",
        "DELETE FROM ingest_quarantine USING devices WHERE shard = $1",
        "INSERT INTO device_reported (device_id, type) VALUES ($1, $2)",
        "INSERT INTO waiting_deliveries (shard) SELECT shard FROM events WHERE project_id = $1",
        "INSERT INTO events (shard, device_id) SELECT shard, id FROM devices",
        "SELECT (SELECT count(*) FROM ingest_ledger WHERE shard = $1), (SELECT count(*) FROM ingest_ledger)",
        "WITH seen AS (SELECT FROM device_state WHERE shard = $1) SELECT FROM seen JOIN spaces USING (id)",
    ],
)
def test_a_statement_that_breaks_the_rule_is_found(statement: str) -> None:
    """Without a shard, or joined with another table in any of the ways there are."""
    assert faults(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT next_seq FROM shards WHERE shard = ANY($1::smallint[]) ORDER BY shard",
        "SELECT 1 FROM unnest($1::int[]) AS w (id) JOIN device_state s ON s.device_id = w.id WHERE s.shard = ANY($3)",
        "INSERT INTO waiting_deliveries (shard, seq) SELECT shard, seq FROM events WHERE shard = ANY($1)",
        "INSERT INTO ingest_ledger (shard, count) VALUES ($1, $2) ON CONFLICT (shard) DO UPDATE SET count = 1",
        "SELECT d.id FROM devices d JOIN device_models m ON m.id = d.model_id",
        "DELETE FROM event_outbox WHERE shard = $1",
        "SELECT shards FROM installation",
    ],
)
def test_a_statement_that_keeps_the_rule_is_left_alone(statement: str) -> None:
    """Arrays of parameters are no table, and rows may be copied out."""
    assert faults(statement) == []


LOCKED_BEFORE = {
    "schemas/device_trees.py",
    "gateway/stores/devices/claiming.py",
    "gateway/stores/devices/deletion.py",
    "schemas/firmware.py",
    "workers/importer/diff.py",
    "workers/retention.py",
}
"""They change several devices after `lock_trees`, or a statement of their own that keeps the order."""
_LOCKS = re.compile(r"\b(?:FROM|JOIN|UPDATE)\s+devices\b.*?\bFOR (?:NO KEY UPDATE|UPDATE|SHARE)\b", re.DOTALL)
_CHANGES = re.compile(r"\bUPDATE\s+devices\b")
_ONE = re.compile(r"\bWHERE (?:\w\.)?id = (?:\$\d+|NEW\.id|CASE)")
_IN_ORDER = re.compile(r"\bORDER BY (?:\w\.)?id\s+FOR\b|\bSKIP LOCKED\b")


def out_of_turn(statement: str) -> bool:
    """Whether a statement locks several devices in no order."""
    several = _LOCKS.search(statement) or _CHANGES.search(statement)
    return several is not None and not _ONE.search(statement) and not _IN_ORDER.search(statement)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_several_devices_are_locked_in_the_order_of_their_ids(path: Path) -> None:
    """Or without waiting; see `gateway.stores.devices.locking` for why."""
    source = path.read_text()
    found = [text for text in literals(source) if out_of_turn(text)]
    if str(path.relative_to(ROOT)) in LOCKED_BEFORE:
        assert "lock_trees(" in source or any(_IN_ORDER.search(text) for text in literals(source))
    else:
        assert found == []


def test_functions_of_the_database_lock_devices_in_order_too() -> None:
    """A trigger changes the devices of a model, or one."""
    assert [name for name, body in functions().items() for text in body.split(";") if out_of_turn(text)] == []


SESSIONS = {
    "workers/archiver/archiver.py": "a connection of its own, which holds the locks of days",
    "schemas/postgres.py": "the lock of migrations, on one's own connection",
    "workers/dispatcher/reading.py": "`workers.dispatcher.session`",
    "workers/flusher/state_rows.py": "a temporary table that is the same for all, and empty between transactions",
    "workers/importer/loading.py": "the connection of a run",
    "workers/shares.py": "the session that holds the locks",
}
_CHANGES_SESSION = re.compile(
    r"(?:\A|;)\s*SET (?!LOCAL)|\bLISTEN \w|\bpg_(?:try_)?advisory_lock"
    r"|\bTEMP(?:ORARY)? TABLE\b(?!.*\bON COMMIT DROP\b)",
    re.DOTALL,
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_of_a_statement_in_the_session_of_a_pools_connection(path: Path) -> None:
    """They go back as they are (see `TranslatingConnection`): who changes a session has a connection of their own."""
    found = [text for text in literals(path.read_text()) if _CHANGES_SESSION.search(text)]
    assert bool(found) == (str(path.relative_to(ROOT)) in SESSIONS)


ONE_SHARD_EACH = {
    "gateway/stores/connectors/ledgers.py",
    "gateway/stores/events/examining.py",
    "workers/dispatcher/reading.py",
    "workers/dispatcher/slices.py",
}
"""Their statements with a LIMIT inside of LATERAL are run shard by shard, or by source, where it is distributed."""
IN_ONE_POSTGRES = {"workers/flusher/storing.py"}
"""It locks several shards by reading in one Postgres, and by writing where these are distributed."""
_LIMITED = re.compile(r"\bLATERAL\s*\(.*\b(?:LIMIT|OFFSET)\b", re.DOTALL)
_UNCOUNTED = re.compile(r"\bLATERAL\s*\(\s*SELECT\s+count\(", re.DOTALL)
_HOLDS = re.compile(r"\bFOR (?:NO KEY UPDATE|UPDATE|SHARE)\b")
_OF_ONE = re.compile(r"\bshard\s*=\s*\$\d+")
_NO_COLUMNS = re.compile(r"\(\s*SELECT FROM\b.*\bLIMIT\b", re.DOTALL)


def refused_by_citus(statement: str, path: str = "") -> list[str]:
    """Why Citus refuses a statement on the data plane that looks at several shards; nothing where it does not."""
    if not set(_READ.findall(statement)) & DATA_PLANE:
        return []
    found = []
    if _LIMITED.search(statement) and path not in ONE_SHARD_EACH:
        found.append("a LIMIT or OFFSET inside of LATERAL")
    if _UNCOUNTED.search(statement):
        found.append("an aggregate without GROUP BY inside of LATERAL")
    if _HOLDS.search(statement) and not _OF_ONE.search(statement) and path not in IN_ONE_POSTGRES:
        found.append("locks rows of several shards")
    if _NO_COLUMNS.search(statement):
        found.append("a limited subquery without columns")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_statement_is_one_that_a_distributed_data_plane_refuses(path: Path) -> None:
    """Found by running the tests on a cluster; kept on machines that have none."""
    name = str(path.relative_to(ROOT))
    assert [fault for text in literals(path.read_text()) for fault in refused_by_citus(text, name)] == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT e.n FROM unnest($1) s CROSS JOIN LATERAL (SELECT seq FROM events WHERE shard = ANY($1) LIMIT 5) e",
        "SELECT s.* FROM unnest($1) w CROSS JOIN LATERAL (SELECT * FROM device_state WHERE shard = ANY($1) OFFSET 0) s",
        "SELECT c.n FROM unnest($1) w CROSS JOIN LATERAL (SELECT count(*) AS n FROM events WHERE shard = $2) c",
        "SELECT shard FROM shards WHERE shard = ANY($1) FOR UPDATE",
        "SELECT count(*) FROM (SELECT FROM events WHERE shard = ANY($1) LIMIT 5) few",
    ],
)
def test_a_statement_that_such_a_plane_refuses_is_found(statement: str) -> None:
    """In each of the ways that were met."""
    assert refused_by_citus(statement)
