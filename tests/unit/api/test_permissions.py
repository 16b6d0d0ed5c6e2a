"""Every list of roles and permissions knows all of them."""

import itertools
import re
from pathlib import Path
from typing import get_args

import pytest

from gateway.app import ENDPOINTS
from gateway.permissions import (
    KEY_ROLES,
    MEMBER_ROLES,
    NAMES,
    PROJECT_ROLES,
    ROLES,
    VENDOR_ROLES,
    KeyKind,
    Permission,
    Role,
    names,
)

MIGRATIONS = sorted((Path(__file__).parent.parent.parent.parent / "schemas" / "migrations").glob("*.sql"))


def test_every_role_is_defined_and_may_be_given_to_somebody() -> None:
    """To members, or to keys of some kind; and to no more than it is for."""
    assert list(ROLES) == list(get_args(Role))
    assert set(KEY_ROLES) == set(get_args(KeyKind))
    assert {role for roles in KEY_ROLES.values() for role in roles} | set(MEMBER_ROLES) == set(ROLES)
    assert all(ROLES[role].reach == "vendor" for role in KEY_ROLES["partner"])
    assert not any(ROLES[role].reach == "vendor" for role in MEMBER_ROLES)


def test_roles_of_a_reach_grow() -> None:
    """Each grants what the one before it does, and something more."""
    for roles in KEY_ROLES.values():
        for less, more in itertools.pairwise(roles):
            assert ROLES[less].permissions < ROLES[more].permissions


def test_every_permission_is_granted_named_and_asked_for() -> None:
    """A new one is not forgotten in a list; no name stands for two."""
    assert list(NAMES) == list(Permission)
    every = names(frozenset(Permission))
    assert len(set(every)) == len(every)
    assert {permission for role in ROLES.values() for permission in role.permissions} == set(Permission)
    assert {endpoint.permission for endpoint in ENDPOINTS} - {None} == set(Permission)


@pytest.mark.parametrize("kind", get_args(KeyKind))
def test_the_database_knows_the_roles_of_keys(kind: str) -> None:
    """The newest check of the table lists those that a key of this kind may have."""
    checks = re.findall(r"api_keys_role_check CHECK \((.*?)\);", "".join(p.read_text() for p in MIGRATIONS), re.DOTALL)
    found = re.search(rf"kind = '{kind}' AND role IN \((.*?)\)", checks[-1])
    assert found is not None
    assert re.findall(r"'([a-z.]+)'", found[1]) == list(KEY_ROLES[kind])


def test_the_database_knows_the_roles_of_members() -> None:
    """As for keys; those of a project, and no others, stand with one."""
    sql = "".join(path.read_text() for path in MIGRATIONS)
    checks = re.findall(r"(?:TABLE|ALTER TABLE) memberships\b[^;]*?CHECK \(role IN \((.*?)\)\)", sql, re.DOTALL)
    assert re.findall(r"'([a-z.]+)'", checks[-1]) == [*MEMBER_ROLES, *VENDOR_ROLES]
    assert re.findall(r"memberships_check CHECK \(\(project_id IS NOT NULL\) = \(role LIKE '([a-z.]+)%'\)\)", sql) == [
        "project."
    ]
    assert {role for role in ROLES if role.startswith("project.")} == set(PROJECT_ROLES)
