"""`fleetgate admin`: from an empty database to working keys, for people and for programs."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.cli.admin import command as admin
from gateway.stores import models
from gateway.stores.accounts import members
from gateway.stores.connectors import authorization_links, cloud_connectors, data_connectors
from gateway.stores.people import accounts, links
from gateway.stores.tenants import spaces
from schemas import ids, signing_keys
from schemas.postgres import Pool
from schemas.secrets import CONNECTOR_SECRETS, SIGNING_KEYS, Vault, derived_secret
from tests.conftest import MASTER_KEY, SHARDS


class Admin:
    """Runs `fleetgate admin` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._parser = argparse.ArgumentParser(prog="fleetgate")
        admin.add_parser(self._parser.add_subparsers(required=True))

    async def run(self, *words: Any) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        try:
            code = await admin.run(self._parser.parse_args(["admin", *map(str, words)]))
        except SystemExit as end:
            code = int(str(end.code))
        out, err = self._capsys.readouterr()
        return code, out, err

    async def json(self, *words: Any) -> Any:
        """What a program reads."""
        code, out, err = await self.run(*words, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def command(dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Admin:
    """`fleetgate admin` on the test's database."""
    monkeypatch.setenv("FLEETGATE_POSTGRES_DSN", dsn)
    monkeypatch.setenv("FLEETGATE_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("FLEETGATE_MASTER_KEY", MASTER_KEY)
    return Admin(capsys)


async def test_a_tenant_is_set_up_from_nothing(command: Admin, pool: Pool) -> None:
    """Organization, project, model, command and keys; the keys that are printed are the keys that are stored."""
    organization = (await command.json("organizations", "create", "Acme", "--short-code", "AC"))["id"]
    project = await command.json("projects", "create", "--organization", organization, "Main")
    model = await command.json(
        "models", "create", "--organization", organization, "Acme", "Sensor", "--rate-limit", 99,
        "--offline-threshold-s", 60, "--authentication", "cloud_id",
    )  # fmt: skip
    assert (model["rate_limit"], model["offline_threshold_s"], model["authentication"]) == (99, 60, "cloud_id")
    defined = await command.json(
        "models", "commands", "add", "--model", model["id"], "tune", "--friendly-name", "Tune it", "--timeout-s", 5,
        "--field", "level:integer:required", "--field", "label:string",
    )  # fmt: skip
    assert defined["fields"] == [
        {"name": "level", "type": "integer", "required": True, "description": "", "options": []},
        {"name": "label", "type": "string", "required": False, "description": "", "options": []},
    ]
    for created, kind, table in (
        (await command.json("hardware-keys", "create", "--model", model["id"]), "hardware", "hardware_keys"),
        (
            await command.json(
                "api-keys", "create", "--organization", organization, "--kind", "partner", "--name", "k"
            ),
            "partner",
            "api_keys",
        ),
    ):
        presented = ids.present(created["key"])
        assert presented is not None
        assert presented.kind == kind
        assert await pool.fetchval(f"SELECT digest FROM {table} WHERE id = $1", presented.id) == presented.digest
    assert [one["name"] for one in await command.json("organizations", "list")] == ["Acme"]
    assert await command.json("projects", "list", "--organization", organization) == [project]
    assert await command.json("models", "list", "--organization", organization) == [model]
    assert await command.json("models", "commands", "list", "--model", model["id"]) == [defined]


async def test_keys_of_licences_are_rotated_and_licences_listed(command: Admin, pool: Pool) -> None:
    """By algorithm; the public halves are printed, the private ones stored sealed."""
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    model = await command.json(
        "models", "create", "--organization", organization, "Acme", "Sensor", "--license-algorithm", "ed25519"
    )
    assert model["license_algorithm"] == "ed25519"
    made = [
        await command.json("license-keys", "rotate", "--organization", organization, "--algorithm", algorithm)
        for algorithm in ("ed25519", "ed25519", "rsa")
    ]
    listed = await command.json("license-keys", "list", "--organization", organization)
    assert [(one["id"], one["retired_at"] is None) for one in listed] == [
        (made[2]["id"], True),
        (made[1]["id"], True),
        (made[0]["id"], False),
    ]
    license_id = ids.new_id()
    await pool.execute(
        """INSERT INTO licenses (id, model_id, data, signature, key_id, created_at, updated_at)
           VALUES ($1, $2, 'all', '', $3, now(), now())""",
        license_id,
        UUID(model["id"]),
        made[1]["id"],
    )
    for state, found in (("available", [str(license_id)]), ("inuse", [])):
        rows = await command.json("licenses", "list", "--organization", organization, "--state", state)
        assert [row["id"] for row in rows] == found


async def test_rotating_a_key_ends_the_old_one_and_shows_a_new_one(command: Admin, pool: Pool) -> None:
    """Kind and name stay; both kinds of key can be revoked for good."""
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    model = (await command.json("models", "create", "--organization", organization, "Acme", "Sensor"))["id"]
    for thing, owner in (("api-keys", ("--organization", organization)), ("hardware-keys", ("--model", model))):
        old = await command.json(thing, "create", *owner, "--name", "first")
        new = await command.json(thing, "rotate", old["id"])
        assert (new["name"], new["revoked"]) == ("first", old["id"])
        assert new["key"] != old["key"]
        await command.json(thing, "revoke", new["id"])
        listed = await command.json(thing, "list", *owner)
        assert [one["id"] for one in listed] == [old["id"], new["id"]]
        assert all(one["revoked_at"] for one in listed)


async def test_what_registered_with_a_revoked_key_is_purged(command: Admin, pool: Pool) -> None:
    """Not while the key is good; a worker tells Redis."""
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    model = (await command.json("models", "create", "--organization", organization, "Acme", "Sensor"))["id"]
    key = (await command.json("hardware-keys", "create", "--model", model))["id"]
    for number in range(2):
        await pool.execute(
            """INSERT INTO devices (id, shard, model_id, hardware_key_id, sn, firmware_version)
               VALUES ($1, 0, $2, $3, $4, '1')""",
            ids.new_id(),
            model,
            key,
            f"SN{number}",
        )
    assert "Revoke the hardware key first" in (await command.run("hardware-keys", "purge", key))[2]
    await command.json("hardware-keys", "revoke", key)
    assert await command.json("hardware-keys", "purge", key) == {"deleted": 2, "more": False}
    assert await pool.fetchval("SELECT count(*) FROM reply_queue") == 2


async def test_people_read_tables_and_are_told_that_a_key_is_shown_once(command: Admin) -> None:
    """Columns line up under their names; an empty list says so; the key alone is on stdout."""
    assert (await command.run("organizations", "list"))[1] == "None yet.\n"
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    await command.run("projects", "create", "--organization", organization, "Main")
    _, out, _ = await command.run("projects", "list", "--organization", organization)
    head, line = out.splitlines()
    assert head.split() == ["id", "name", "created_at"]
    assert head.index("name") == line.index("Main")
    code, out, err = await command.run("api-keys", "create", "--organization", organization, "--name", "k")
    assert code == 0
    assert "fgo_" in out
    assert "shown this once" in err


async def test_wrong_usage_is_a_sentence_and_exit_code_two(
    command: Admin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Never a trace."""
    organization = ids.new_id()
    for words, text in (
        ((), "required"),
        (("planets", "list"), "invalid choice"),
        (("projects", "create", "Main"), "--organization"),
        (("projects", "list", "--organization", "x"), "invalid UUID value"),
        (("projects", "create", "--organization", organization, ""), "1 to 255 characters"),
        (("organizations", "create", "\udc80"), "not valid UTF-8"),
        (("models", "create", "--organization", organization, "V", "M", "--rate-limit", "0"), "not between"),
        (("models", "create", "--organization", organization, "V", "M", "--rate-limit", "x"), "invalid"),
        (("models", "commands", "add", "--model", organization, "c", "--field", "a:date"), "NAME:TYPE"),
    ):
        code, _, err = await command.run(*words)
        assert (code, "Traceback" in err, text in err) == (2, False, True), (words, err)
    monkeypatch.delenv("FLEETGATE_POSTGRES_DSN")
    monkeypatch.setenv("FLEETGATE_HOME", str(tmp_path))
    code, _, err = await command.run("organizations", "list")
    assert (code, err) == (
        2,
        f"fleetgate admin: FLEETGATE_POSTGRES_DSN not set, and no `fleetgate up` has run in {tmp_path}\n",
    )


async def test_what_is_refused_is_a_sentence_and_exit_code_one(command: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown owners and keys, short codes that are taken, a database that is away."""
    await command.json("organizations", "create", "Acme", "--short-code", "AC")
    nobody = ids.new_id()
    for words, text in (
        (("organizations", "create", "B", "--short-code", "AC"), "Short code has already been taken"),
        (("organizations", "create", "B", "--short-code", "A/C"), "Name must have 1 to 255 characters"),
        (("projects", "list", "--organization", nobody), "Organization not found"),
        (("projects", "create", "--organization", nobody, "Main"), "Organization not found"),
        (("models", "create", "--organization", nobody, "V", "M"), "Organization not found"),
        (("models", "commands", "add", "--model", nobody, "c"), "Model not found"),
        (("hardware-keys", "create", "--model", nobody), "Model not found"),
        (("hardware-keys", "revoke", nobody), "Hardware key not found"),
        (("hardware-keys", "rotate", nobody), "Hardware key not found"),
        (("hardware-keys", "purge", nobody), "Hardware key not found"),
        (("api-keys", "create", "--organization", nobody, "--name", "k"), "Organization not found"),
        (("api-keys", "revoke", nobody), "API key not found"),
        (("api-keys", "rotate", nobody), "API key not found"),
    ):
        code, out, err = await command.run(*words)
        assert (code, out) == (1, ""), words
        assert err.startswith(f"fleetgate admin: {text}"), words
    monkeypatch.setenv("FLEETGATE_POSTGRES_DSN", "postgresql://nobody@127.0.0.1:1/none")
    code, _, err = await command.run("organizations", "list")
    assert code == 1
    assert err.startswith("fleetgate admin: Postgres is not available: ")


async def test_a_service_account_is_made_rotated_and_deleted(command: Admin, pool: Pool) -> None:
    """The secret that is shown is the one that is derived; rotating ends the keys before."""
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    project = (await command.json("projects", "create", "--organization", organization, "Main"))["id"]
    made = await command.json(
        "service-accounts", "create", "--project", project, "Reader", "--role", "organization.admin", "--basic-auth"
    )
    assert made["key"] == derived_secret(MASTER_KEY, made["key_id"])
    role = await pool.fetchrow("SELECT project_id, role FROM memberships")
    assert (role["project_id"], role["role"]) == (None, "organization.admin")
    rotated = await command.json("service-accounts", "rotate", made["id"])
    assert rotated["email"] == made["email"]
    (listed,) = await command.json("service-accounts", "list", "--project", project)
    assert listed["keys"] == rotated["key_id"] != made["key_id"]
    assert await command.json("service-accounts", "delete", made["id"]) == {"deleted": made["id"]}
    assert await command.json("service-accounts", "list", "--project", project) == []
    assert (await command.run("service-accounts", "rotate", made["id"]))[0] == 1


async def test_the_master_key_is_rotated(command: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next key beside the first one; the first is retired when nothing is of it, and needed no more."""
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    project = (await command.json("projects", "create", "--organization", organization, "Main"))["id"]
    account = await command.json("service-accounts", "create", "--project", project, "Reader")
    code, _, told = await command.run("master-keys", "rotate")
    assert (code, "FLEETGATE_MASTER_KEYS_MORE" in told) == (1, True)
    monkeypatch.setenv("FLEETGATE_MASTER_KEYS_MORE", "6b" * 32)
    assert (await command.json("master-keys", "rotate"))["generation"] == 1
    listed = await command.json("master-keys", "list")
    assert [(one["generation"], one["account_keys"]) for one in listed] == [(0, 1), (1, 0)]
    code, _, told = await command.run("master-keys", "retire", 0)
    assert (code, "0 devices and 1 keys" in told) == (1, True)
    rotated = await command.json("service-accounts", "rotate", account["id"])
    assert rotated["key"] == derived_secret("6b" * 32, rotated["key_id"])
    assert (await command.json("master-keys", "retire", 0))["generation"] == 0
    monkeypatch.setenv("FLEETGATE_MASTER_KEY", "6b" * 32)
    monkeypatch.delenv("FLEETGATE_MASTER_KEYS_MORE")
    assert (await command.json("service-accounts", "rotate", account["id"]))["email"] == account["email"]


async def test_connectors_are_looked_after_by_hand(command: Admin, pool: Pool) -> None:
    """List, show, sync, disable, enable, confirm and delete; what makes no sense is a sentence."""
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    project = (await command.json("projects", "create", "--organization", organization, "Main"))["id"]
    async with pool.acquire() as connection:
        space = await spaces.create(connection, UUID(organization), UUID(project), "Hall")
        connector = await cloud_connectors.create(
            connection,
            UUID(organization),
            project_id=UUID(project),
            space_id=space.id,
            provider="simulated",
            name="Rooms",
            settings={},
        )
        code, _, told = await command.run("connectors", "sync", connector)
        assert (code, told) == (1, "fleetgate admin: The connector was never authorised: open its link\n")
        await authorization_links.authorise(connection, connector, b"sealed")
    (listed,) = await command.json("connectors", "list", "--organization", organization)
    assert (listed["id"], listed["status"]) == (connector, "Active")
    assert await command.json("connectors", "disable", connector) == {"disabled": connector}
    assert (await command.json("connectors", "show", connector))["status"] == "Disabled"
    assert await command.json("connectors", "enable", connector) == {"enabled": connector}
    assert await command.json("connectors", "sync", connector) == {"due": connector}
    assert await command.json("connectors", "runs", connector) == []
    assert (await command.run("connectors", "confirm", connector))[2] == "fleetgate admin: No list is held\n"
    assert (await command.run("connectors", "delete", connector, "--name", "Other"))[0] == 1
    assert await command.json("connectors", "delete", connector, "--name", "Rooms") == {"deleted_devices": 0}
    assert (await command.run("connectors", "show", connector))[2] == "fleetgate admin: Connector not found\n"


async def test_incidents_are_listed_and_closed_by_hand(command: Admin, pool: Pool) -> None:
    """The open ones of an organization, and its rules as owner and as vendor; closing is told as an event."""
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    project = (await command.json("projects", "create", "--organization", organization, "Main"))["id"]
    of_it = ("--organization", organization)
    device_id, incident_id = ids.new_id(), ids.new_id()
    async with pool.acquire() as connection:
        space = await spaces.create(connection, UUID(organization), UUID(project), "Hall")
        model = await models.create(connection, UUID(organization), vendor="Acme", name="Sensor")
        await connection.execute(
            """INSERT INTO devices (id, shard, model_id, sn, firmware_version, organization_id, project_id, space_id,
                                    claimed_at) VALUES ($1, 0, $2, 'S', '1.0.0', $3, $4, $5, now())""",
            *(device_id, model.id, organization, project, space.id),
        )
        await connection.execute(
            "INSERT INTO incidents (id, device_id, issue, title) VALUES ($1, $2, 'i', 'Leak')", incident_id, device_id
        )
        for as_vendor in (False, True):
            await connection.execute(
                """INSERT INTO incident_rules (id, organization_id, as_vendor, model_id, telemetry_key, comparison,
                                               value, title) VALUES ($1, $2, $3, $4, 'disk', 'gt', '90', $5)""",
                *(ids.new_id(), organization, as_vendor, model.id, "Vendor's" if as_vendor else "Owner's"),
            )
    [listed] = await command.json("incidents", "list", *of_it)
    assert (listed["id"], listed["title"], listed["priority_name"]) == (str(incident_id), "Leak", "moderate")
    assert (await command.json("incidents", "close", *of_it, incident_id))["status"] == "closed"
    assert await command.json("incidents", "list", *of_it) == []
    assert await pool.fetchval("SELECT array_agg(type) FROM event_outbox") == ["incidentClosed"]
    assert (await command.run("incidents", "close", *of_it, ids.new_id()))[2] == "fleetgate admin: Incident not found\n"
    for options, title in (((), "Owner's"), (("--vendor",), "Vendor's")):
        [rule] = await command.json("incident-rules", "list", *of_it, *options)
        assert (rule["title"], rule["comparison"], rule["value"]) == (title, "gt", 90)


async def test_the_key_of_secrets_is_rotated(command: Admin, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both keys everything can be read; after the command the new one is enough. A key that is missing is told."""
    organization = (await command.json("organizations", "create", "Acme"))["id"]
    project = (await command.json("projects", "create", "--organization", organization, "Main"))["id"]
    first, second = "11" * 32, "22" * 32
    async with pool.acquire() as connection:
        connector = data_connectors.new(UUID(project))
        connector.secret = Vault(first, CONNECTOR_SECRETS).seal(b"s3cret", connector.id)
        await data_connectors.create(connection, connector)
        await signing_keys.rotate(connection, Vault(MASTER_KEY, SIGNING_KEYS))
    monkeypatch.setenv("FLEETGATE_SECRETS_KEY", second)
    code, _, told = await command.run("secrets", "rotate")
    assert (code, "set FLEETGATE_SECRETS_KEY_PREVIOUS" in told) == (1, True)
    monkeypatch.setenv("FLEETGATE_SECRETS_KEY_PREVIOUS", first)
    for _ in range(2):
        assert await command.json("secrets", "rotate") == {
            "cloud_connectors": 0,
            "data_connectors": 1,
            "license_keys": 0,
            "signing_keys": 1,
        }
    row = await pool.fetchrow("SELECT id, secret, headers FROM data_connectors")
    assert Vault(second, CONNECTOR_SECRETS).open(row["secret"], row["id"]) == b"s3cret"
    assert row["headers"] == b""
    async with pool.acquire() as connection:
        assert await signing_keys.signing_key(connection, Vault(second, SIGNING_KEYS), datetime.now(UTC))


async def test_the_first_person_comes_in_by_a_link(command: Admin, pool: Pool) -> None:
    """Invited to the only organization, or to the one that is named; again where the link was lost; and let in anew."""
    home = await command.json("organizations", "create", "Acme")
    first = await command.json("users", "invite", "ada@example.com", "--role", "organization.admin")
    again = await command.json("users", "invite", "ada@example.com", "--role", "organization.admin")
    assert (first["organization"], first["role"]) == (home["id"], "organization.admin")
    assert first["link"] != again["link"]
    assert first["link"].startswith("http://127.0.0.1:8080/invitations/")
    assert await pool.fetchval("SELECT count(*) FROM memberships") == 1
    invited = await links.invitation(pool, first["link"].rpartition("/")[2], datetime.now(UTC))
    assert invited is not None
    async with pool.acquire() as connection:
        person = await accounts.find_or_create(connection, "Ada@Example.com")
        await members.accept(connection, invited.membership_id, person.id)
    assert [one["email"] for one in await command.json("users", "list", "--organization", home["id"])] == [
        "Ada@Example.com"
    ]
    code, _, err = await command.run("users", "invite", "ada@example.com", "--role", "organization.admin")
    assert (code, "accepted the role already" in err) == (1, True)
    code, out, err = await command.run("users", "link", "ADA@example.com")
    assert (code, "/sign-in/" in out, "shown this once" in err) == (0, True, True)
    project = (await command.json("projects", "create", "--organization", home["id"], "Main"))["id"]
    made = await command.json("users", "invite", "bob@example.com", "--role", "project.user", "--project", project)
    assert made["organization"] == home["id"]
    await command.json("organizations", "create", "Globex")
    for words, complaint in (
        (("invite", "bob@example.com", "--role", "project.user"), "--project is for the roles"),
        (("invite", "b@example.com", "--role", "partner.user", "--project", project), "--project is for the roles"),
        (("invite", "bob@example.com", "--role", "partner.user"), "--organization is needed"),
        (("invite", "bob", "--role", "project.user", "--project", project), "must be an address"),
        (("invite", "b@example.com", "--role", "project.user", "--project", home["id"]), "Project not found"),
        (("link", "nobody@example.com"), "There is no such person"),
    ):
        code, _, err = await command.run("users", *words)
        assert (code, complaint in err) == (1, True), err


async def test_what_is_to_be_erased_of_history_is_asked_for_and_listed(command: Admin, pool: Pool) -> None:
    """Of a device, in the shard where all of it is, or of a project, which may be gone; one of the two."""
    device, project = ids.new_id(), ids.new_id()
    await command.json("history", "erase", "--device", device)
    await command.json("history", "erase", "--project", project)
    found = await command.json("history", "list")
    assert [(one["device_id"], one["project_id"], one["done_at"]) for one in found] == [
        (None, str(project), None),
        (str(device), None, None),
    ]
    assert await pool.fetchval("SELECT shard FROM erasures WHERE device_id = $1", device) == ids.shard_of(
        str(device).encode(), SHARDS
    )
    assert (await command.run("history", "erase"))[0] == 2
