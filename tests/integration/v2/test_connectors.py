"""Data connectors as they are set up: by the public client library, and every rule of PATCH."""

from datetime import timedelta
from typing import Any

import disruptive as dt
import pytest
from disruptive import errors
from edges import RunningEdge, open_shards, running_edge
from owners import NOW, Owner, owner
from projects import Account, account_of

from schemas.redis import Redis

URL = "https://receiver.example.com/hook"


@pytest.fixture
async def developer(acme: Owner) -> Account:
    return await account_of(acme, "project.developer")


def connectors(acme: Owner, connector: str = "", query: str = "") -> str:
    return f"/v2/projects/{acme.project_id}/dataconnectors{'/' if connector else ''}{connector}{query}"


async def make(developer: Account, acme: Owner, **members: Any) -> Any:
    body = {"httpConfig": {"url": URL, "signatureSecret": "s3cret-of-16-and-more", "headers": {"X-A": "1"}}, **members}
    status, answer = await developer.ask("POST", connectors(acme), body)
    assert status == 200, answer
    return answer


async def test_the_client_manages_connectors_as_its_documentation_shows(acme: Owner) -> None:
    """Create, get, list, update, metrics, sync, delete."""
    account = await account_of(acme, "project.developer", basic=False)
    project = str(acme.project_id)
    made = await account.client(
        dt.DataConnector.create_data_connector,
        project,
        config=dt.DataConnector.HttpPushConfig(
            url=URL, signature_secret="s3cret-of-16-and-more", headers={"X-Name": "hall"}
        ),
        display_name="Mine",
        event_types=["telemetry", "temperature"],
        labels=["room"],
    )
    assert (made.display_name, made.status, made.event_types) == ("Mine", "ACTIVE", ["telemetry", "temperature"])
    assert (made.config.url, made.config.signature_secret, made.config.headers) == (
        URL,
        "s3cret-of-16-and-more",
        {"X-Name": "hall"},
    )
    again = await account.client(dt.DataConnector.get_data_connector, made.data_connector_id, project)
    assert again.raw == made.raw
    changed = await account.client(
        dt.DataConnector.update_data_connector, made.data_connector_id, project, display_name="Other", labels=[]
    )
    assert (changed.display_name, changed.labels, changed.event_types) == ("Other", [], made.event_types)
    metrics = await account.client(dt.DataConnector.get_metrics, made.data_connector_id, project)
    assert (metrics.success_count, metrics.error_count) == (0, 0)
    await account.client(dt.DataConnector.sync_data_connector, made.data_connector_id, project)
    listed = await account.client(dt.DataConnector.list_data_connectors, project)
    assert [connector.data_connector_id for connector in listed] == [made.data_connector_id]
    await account.client(dt.DataConnector.delete_data_connector, made.data_connector_id, project)
    with pytest.raises(errors.NotFound):
        await account.client(dt.DataConnector.get_data_connector, made.data_connector_id, project)


DELIVERY = {
    "asymmetricSignature": False,
    "standardWebhooks": False,
    "retryWindowSeconds": 43200,
    "maxInFlight": None,
}


@pytest.mark.parametrize(
    ("mask", "body", "changes"),
    [
        (None, {}, {}),
        (None, {"displayName": "B", "labels": None}, {"displayName": "B"}),
        (None, {"httpConfig": {"headers": {"X-B": "2"}}}, {"headers": {"X-B": "2"}}),
        (None, {"httpConfig": {"url": "https://other.example.com/"}}, {"url": "https://other.example.com/"}),
        (None, {"status": "USER_DISABLED"}, {"status": "USER_DISABLED"}),
        ("displayName", {"displayName": "B", "labels": ["x"]}, {"displayName": "B"}),
        ("display_name,labels", {"displayName": "B"}, {"displayName": "B", "labels": []}),
        ("httpConfig.signatureSecret", {}, {"signatureSecret": ""}),
        ("http_config.headers", {"httpConfig": {"url": "https://ignored.example.com"}}, {"headers": {}}),
        ("events", {"events": ["telemetry"]}, {"events": ["telemetry"]}),
        ("status", {}, {}),
        (None, {"delivery": {"maxInFlight": 3}}, {"delivery": {**DELIVERY, "maxInFlight": 3}}),
        ("delivery.maxInFlight", {}, {"delivery": DELIVERY}),
    ],
    ids=str,
)
async def test_patch_changes_what_it_says(
    acme: Owner, developer: Account, mask: str | None, body: Any, changes: dict[str, Any]
) -> None:
    """Absent and null stay, a mask changes exactly what it names, headers are replaced whole."""
    made = await make(developer, acme, displayName="A", labels=["room"], events=["touch"])
    connector = made["name"].rpartition("/")[2]
    query = "" if mask is None else f"?{'update_mask' if '_' in mask else 'updateMask'}={mask}"
    status, after = await developer.ask("PATCH", connectors(acme, connector, query), body)
    assert status == 200, after
    expected = {**made, "httpConfig": dict(made["httpConfig"])}
    for name, value in changes.items():
        (expected["httpConfig"] if name in made["httpConfig"] else expected)[name] = value
    assert after == expected
    assert (await developer.ask("GET", connectors(acme, connector)))[1] == expected


@pytest.mark.parametrize(
    "body",
    [
        {"httpConfig": {"url": "http://receiver.example.com"}},
        {"httpConfig": {"url": "https://127.0.0.1/"}},
        {"httpConfig": {"url": "https://2130706433/"}},
        {"httpConfig": {"url": "https://[::ffff:10.0.0.1]/"}},
        {"httpConfig": {"url": "https://169.254.169.254/latest"}},
        {"httpConfig": {"url": "https://user:pass@example.com/"}},
        {"httpConfig": {"url": ""}},
        {"httpConfig": {"headers": {"Host": "x"}}},
        {"httpConfig": {"headers": {"x-dt-signature": "x"}}},
        {"httpConfig": {"headers": {"X-A": "a\r\nB: c"}}},
        {"httpConfig": {"headers": {"X A": "a"}}},
        {"httpConfig": {"headers": {"X-A": "a", "x-a": "b"}}},
        {"events": ["earthquake"]},
        {"status": "SYSTEM_DISABLED"},
        {"status": "PAUSED"},
        {"type": "MQTT"},
        {"displayName": "x" * 256},
        {"displayName": "\x00"},
        {"delivery": {"retryWindowSeconds": 1}},
        {"delivery": {"maxInFlight": 0}},
        {"delivery": {"maxInFlight": 1001}},
        {"delivery": {"standardWebhooks": True}},
        {"delivery": {"standardWebhooks": True}, "httpConfig": {"signatureSecret": "in plain text, with spaces"}},
        {"labels": ["x"] * 101},
    ],
    ids=str,
)
async def test_what_cannot_be_sent_to_is_refused_when_it_is_saved(acme: Owner, developer: Account, body: Any) -> None:
    """400 with a sentence, and nothing changes."""
    made = await make(developer, acme)
    connector = made["name"].rpartition("/")[2]
    status, answer = await developer.ask("PATCH", connectors(acme, connector), body)
    assert (status, answer["code"], answer["help"]) == (400, 400, "/docs"), answer
    assert answer["error"]
    assert (await developer.ask("GET", connectors(acme, connector)))[1] == made
    assert (await developer.ask("PATCH", connectors(acme, connector, "?update_mask=nothing"), {}))[0] == 400


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", {"httpConfig": {"signature_secret": "secret-of-16-and-more"}}),
        ("", {"display_name": "A"}),
        ("", {"delivery": {"maxInflight": 1}}),
        ("?update_mask=", {}),
        ("?update_mask=,", {}),
        ("?update_mask=displayName&update_mask=labels", {}),
        ("?update_mask=displayName&updateMask=labels", {}),
        ("?mask=displayName", {}),
    ],
    ids=str,
)
async def test_nothing_that_is_given_is_ignored(acme: Owner, developer: Account, query: str, body: Any) -> None:
    """400, with what it was that nobody knows."""
    made = await make(developer, acme)
    connector = made["name"].rpartition("/")[2]
    assert (await developer.ask("PATCH", connectors(acme, connector, query), body))[0] == 400
    assert (await developer.ask("GET", connectors(acme, connector)))[1] == made


@pytest.mark.parametrize("listed", ["dataconnectors", "members", "serviceaccounts", ""])
async def test_a_page_token_that_is_none_of_a_list_is_refused(acme: Owner, listed: str) -> None:
    """In every list in the order of ids; a list must not end early because somebody mistyped."""
    boss = await account_of(acme, "organization.admin")
    path = f"/v2/projects/{acme.project_id}/{listed}" if listed else "/v2/projects"
    assert (await boss.ask("GET", path))[0] == 200
    for token in ("garbage", "%ff", "x" * 20, str(acme.project_id).upper()):
        assert (await boss.ask("GET", f"{path}?page_token={token}"))[0] == 400, token
    last = str(acme.project_id) if not listed else "0" * 20
    assert (await boss.ask("GET", f"{path}?page_token={last}"))[0] == 200


async def test_a_secret_of_standard_webhooks_is_one_that_their_libraries_take(acme: Owner, developer: Account) -> None:
    """Refused with a sentence where they would refuse it, when it is set, rotated, or signs them from now on."""
    made = await make(developer, acme)
    connector = made["name"].rpartition("/")[2]
    for secret in ("c2VjcmV0IGluIGJhc2U2NA==", "whsec_c2VjcmV0IGluIGJhc2U2NA=="):
        body = {"delivery": {"standardWebhooks": True}, "httpConfig": {"signatureSecret": secret}}
        assert (await developer.ask("PATCH", connectors(acme, connector), body))[0] == 200
        rotated = {"signatureSecret": secret}
        assert (await developer.ask("POST", connectors(acme, connector, ":rotateSecret"), rotated))[0] == 200
    plain = {"signatureSecret": "in plain text, with spaces"}
    for call in (("PATCH", "", {"httpConfig": plain}), ("POST", ":rotateSecret", plain)):
        status, answer = await developer.ask(call[0], connectors(acme, connector, call[1]), call[2])
        assert status == 400
        assert "openssl rand -base64 32" in answer["error"]
    off = {"delivery": {"standardWebhooks": False}, "httpConfig": plain}
    assert (await developer.ask("PATCH", connectors(acme, connector), off))[0] == 200
    on = {"delivery": {"standardWebhooks": True}}
    assert (await developer.ask("PATCH", connectors(acme, connector), on))[0] == 400


async def test_secrets_are_for_those_who_may_change_them(acme: Owner, developer: Account) -> None:
    """A user reads everything else; at rest they are sealed; a rotated secret leaves the one before for a day."""
    made = await make(developer, acme)
    connector = made["name"].rpartition("/")[2]
    user = await account_of(acme, "project.user")
    _, seen = await user.ask("GET", connectors(acme, connector))
    assert seen["httpConfig"] == {"url": "https://receiver.example.com/…", "signatureSecret": "", "headers": {}}
    _, listed = await user.ask("GET", connectors(acme))
    assert listed["dataConnectors"] == [seen]
    row = await acme.pool.fetchrow("SELECT secret, headers FROM data_connectors")
    assert b"s3cret-of-16-and-more" not in row["secret"] + row["headers"]
    status, rotated = await developer.ask(
        "POST", connectors(acme, connector, ":rotateSecret"), {"signatureSecret": "n3xt-one-of-16-and-more"}
    )
    assert (status, rotated["httpConfig"]["signatureSecret"]) == (200, "n3xt-one-of-16-and-more")
    row = await acme.pool.fetchrow(
        "SELECT previous_secret, previous_secret_until > now() AS lasts FROM data_connectors"
    )
    assert row["previous_secret"]
    assert row["lasts"] is True


async def test_a_project_has_ten_connectors_at_most(acme: Owner, developer: Account) -> None:
    """The eleventh is refused; pages lead through them all."""
    made = [(await make(developer, acme))["name"] for _ in range(10)]
    status, answer = await developer.ask("POST", connectors(acme), {"httpConfig": {"url": URL}})
    assert (status, answer["code"]) == (409, 409)
    _, first = await developer.ask("GET", connectors(acme, query="?page_size=7"))
    _, rest = await developer.ask("GET", connectors(acme, query=f"?pageSize=7&pageToken={first['nextPageToken']}"))
    assert [c["name"] for c in first["dataConnectors"] + rest["dataConnectors"]] == sorted(made)
    assert rest["nextPageToken"] == ""


async def test_sync_and_replay_are_jobs_that_tell_how_far_they_are(acme: Owner, developer: Account) -> None:
    """Noted at once, done by a dispatcher; disabled, none is begun, and what ran is cancelled."""
    made = await make(developer, acme)
    connector = made["name"].rpartition("/")[2]
    await acme.message(await acme.device(), NOW)
    assert await developer.ask("POST", connectors(acme, connector, ":sync")) == (200, {})
    window = {"startTime": NOW.isoformat(), "endTime": (NOW + timedelta(minutes=2)).isoformat()}
    status, replay = await developer.ask("POST", connectors(acme, connector, ":replay"), window)
    assert status == 200
    told = {"kind": "replay", "state": "RUNNING", "events": 0, "progress": 0.0, "endTime": None}
    assert told.items() <= replay.items()
    _, answer = await developer.ask("GET", connectors(acme, connector, ":jobs"))
    assert answer["jobs"][0] == replay
    assert [job["kind"] for job in answer["jobs"]] == ["replay", "sync"]
    for _ in range(9):
        assert (await developer.ask("POST", connectors(acme, connector, ":replay"), window))[0] == 200
    assert (await developer.ask("POST", connectors(acme, connector, ":replay"), window))[0] == 409
    await developer.ask("PATCH", connectors(acme, connector), {"status": "USER_DISABLED"})
    _, answer = await developer.ask("GET", connectors(acme, connector, ":jobs"))
    assert {(job["kind"], job["state"]) for job in answer["jobs"]} == {
        ("drop", "RUNNING"),
        ("replay", "CANCELLED"),
        ("sync", "CANCELLED"),
    }
    assert all(job["endTime"] for job in answer["jobs"] if job["state"] == "CANCELLED")
    for verb, body in ((":sync", None), (":replay", window)):
        assert (await developer.ask("POST", connectors(acme, connector, verb), body))[0] == 400


async def test_the_operator_may_open_what_is_closed(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """Plain http and loopback, as the demo does."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, egress_http=True, egress_allow="127.0.0.0/8") as edge:
        acme = await owner(edge, "Acme")
        developer = await account_of(acme, "project.developer")
        made = await make(developer, acme, httpConfig={"url": "http://127.0.0.1:9/x"})
        assert made["httpConfig"]["url"] == "http://127.0.0.1:9/x"
        for given in ("http://127.0.0.1:80/A%2fb%3A~?sig=x%2B", "http://127.0.0.1:9/" + 700 * "ä"):
            made = await make(developer, acme, httpConfig={"url": given})
            assert made["httpConfig"]["url"] == given


async def test_receivers_find_the_public_keys(edge: RunningEdge) -> None:
    """From the discovery document, without any credential."""
    async with edge.http.get(f"{edge.url}/data-connector/.well-known/openid-configuration") as answer:
        found = await answer.json()
    async with edge.http.get(found["jwks_uri"]) as answer:
        assert (answer.status, await answer.json()) == (200, {"keys": []})
