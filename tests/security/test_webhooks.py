"""A webhook is the gateway's own request: no custom header reframes it or speaks for it, and its secret is long."""

from typing import Any

import pytest
from owners import Owner
from projects import account_of

from gateway.v2.data_connector_settings import SECRET_CHARACTERS_MIN
from schemas.secrets import CONNECTOR_SECRETS, Vault
from tests.conftest import MASTER_KEY

URL = "https://receiver.example.com/events"
FRAMING = [
    "Expect", "Upgrade", "Connection", "Host", "Transfer-Encoding", "Content-Length", "TE", "Trailer", "Keep-Alive",
    "Proxy-Connection", "HTTP2-Settings", "Content-Encoding", "Content-Type", "Content_Length", "transfer_encoding",
]  # fmt: skip
SPEAKING = ["X-Dt-Signature", "x-dt-signature", "DT-Asymmetric-Signature", "Webhook-Id", "webhook_signature"]


async def refused(acme: Owner, config: dict[str, Any]) -> list[str]:
    """What is told when a connector is made, and when one is changed, with this."""
    developer = await account_of(acme, "project.developer")
    path = f"/v2/projects/{acme.project_id}/dataconnectors"
    _, made = await developer.ask("POST", path, {"httpConfig": {"url": URL}})
    answers = [
        await developer.ask("POST", path, {"httpConfig": {"url": URL} | config}),
        await developer.ask("PATCH", f"/v2/{made['name']}", {"httpConfig": config}),
        await developer.ask("PATCH", f"/v2/{made['name']}?update_mask=httpConfig", {"httpConfig": config}),
    ]
    assert [status for status, _ in answers] == [400] * 3
    return [answer["error"] for _, answer in answers]


@pytest.mark.parametrize("name", FRAMING + SPEAKING)
async def test_headers_that_frame_the_request_or_prove_its_sender_are_refused(acme: Owner, name: str) -> None:
    """In any case, and with underscores, which some servers take for hyphens."""
    for text in (await refused(acme, {"url": URL, "headers": {name: "x"}}))[:2]:
        assert text == f"HttpConfig.headers: {name} is set by the gateway itself"


@pytest.mark.parametrize("secret", ["x", "short", "s" * (SECRET_CHARACTERS_MIN - 1)])
async def test_a_secret_that_is_soon_guessed_is_refused(acme: Owner, secret: str) -> None:
    """At least sixteen characters, wherever a secret is given."""
    for text in await refused(acme, {"url": URL, "signatureSecret": secret}):
        assert f"at least {SECRET_CHARACTERS_MIN} characters" in text
    developer = await account_of(acme, "project.developer")
    path = f"/v2/projects/{acme.project_id}/dataconnectors"
    long_enough = "s" * SECRET_CHARACTERS_MIN
    _, made = await developer.ask("POST", path, {"httpConfig": {"url": URL, "signatureSecret": long_enough}})
    assert made["httpConfig"]["signatureSecret"] == long_enough
    status, _ = await developer.ask("POST", f"/v2/{made['name']}:rotateSecret", {"signatureSecret": secret})
    assert status == 400


async def test_a_short_secret_of_earlier_days_may_be_sent_back_but_no_other(acme: Owner) -> None:
    """Clients change a connector by sending all of it."""
    developer = await account_of(acme, "project.developer")
    _, made = await developer.ask(
        "POST", f"/v2/projects/{acme.project_id}/dataconnectors", {"httpConfig": {"url": URL}}
    )
    connector_id = made["name"].rpartition("/")[2]
    sealed = Vault(MASTER_KEY, CONNECTOR_SECRETS).seal(b"old", connector_id)
    await acme.pool.execute("UPDATE data_connectors SET secret = $2 WHERE id = $1", connector_id, sealed)
    _, read = await developer.ask("GET", f"/v2/{made['name']}")
    status, changed = await developer.ask("PATCH", f"/v2/{made['name']}", read | {"displayName": "Renamed"})
    assert (status, changed["httpConfig"]["signatureSecret"], changed["displayName"]) == (200, "old", "Renamed")
    status, _ = await developer.ask("PATCH", f"/v2/{made['name']}", {"httpConfig": {"signatureSecret": "new"}})
    assert status == 400
