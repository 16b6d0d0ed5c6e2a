"""The three signatures of a webhook, checked by those who would check them."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest
import standardwebhooks
from disruptive.errors import ConfigurationError
from dtintegrations.data_connector.http_push import HttpPush
from standardwebhooks.webhooks import WebhookVerificationError

from schemas import signing, signing_keys
from schemas.postgres import Pool
from schemas.secrets import SIGNING_KEYS, Vault
from tests.conftest import MASTER_KEY

BODY = (
    b'{"event":{"eventId":"c2s","targetName":"projects/p/devices/d","eventType":"touch","data":{"touch":'
    b'{"updateTime":"2022-02-10T12:42:13.313949Z"}},"timestamp":"2022-02-10T12:42:13.313949Z"},"labels":'
    b'{"name":"hall"},"metadata":{"deviceId":"d","projectId":"p","deviceType":"touch","productNumber":""}}'
)
SECRET = "a s\u00e9cret of the length that its algorithm wants"


def now_s() -> int:
    return int(time.time())


def test_a_receiver_with_the_vendors_package_accepts_ours_and_rejects_what_was_changed() -> None:
    """A changed body, another secret, an expired token."""

    def received(body: bytes, secret: str, at_s: int) -> HttpPush:
        token = signing.symmetric_token(SECRET.encode(), signing.checksums(BODY), at_s)
        return HttpPush({"X-Dt-Signature": token}, body, secret)

    push = received(BODY, SECRET, now_s())
    assert (push.event.event_id, push.labels) == ("c2s", {"name": "hall"})
    for body, secret, at_s in (
        (BODY.replace(b"hall", b"wall"), SECRET, now_s()),
        (BODY, "another" + SECRET, now_s()),
        (BODY, SECRET, now_s() - signing.TOKEN_LIFE_S - 1),
    ):
        with pytest.raises(ConfigurationError):
            received(body, secret, at_s)


def test_the_token_has_the_members_of_the_contract() -> None:
    """Header, both checksums, an hour's life, and an id of its own in each attempt."""
    sums = signing.checksums(BODY)
    token, other = (signing.symmetric_token(SECRET.encode(), sums, 1_700_000_000) for _ in range(2))
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(token, options={"verify_signature": False})
    jti = claims.pop("jti")
    assert len(jti) == 20
    assert jti != jwt.decode(other, options={"verify_signature": False})["jti"]
    assert claims == {
        "checksum": sums.sha1,
        "checksum_sha256": sums.sha256,
        "iat": 1_700_000_000,
        "exp": 1_700_003_600,
    }


@pytest.mark.parametrize("secret", [SECRET, "whsec_" + base64.b64encode(b"k" * 24).decode(), "whsec_%"])
def test_a_receiver_of_standard_webhooks_accepts_either_secret_while_they_overlap(secret: str) -> None:
    """Two signatures in one header; a third secret and a changed body are rejected."""
    keys = [signing.standard_key(secret), signing.standard_key("previous")]
    at_s = now_s()
    headers = {
        "webhook-id": "c2s",
        "webhook-timestamp": str(at_s),
        "webhook-signature": signing.standard_signature(keys, "c2s", at_s, BODY),
    }
    for key in keys:
        assert standardwebhooks.Webhook(key).verify(BODY, headers) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        standardwebhooks.Webhook(b"third").verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        standardwebhooks.Webhook(keys[0]).verify(BODY + b" ", headers)


def test_a_secret_of_the_standards_form_is_what_its_package_takes_as_text() -> None:
    """`whsec_` and base64 may be given to the package as it is."""
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    at_s = now_s()
    signature = signing.standard_signature([signing.standard_key(secret)], "c2s", at_s, BODY)
    headers = {"webhook-id": "c2s", "webhook-timestamp": str(at_s), "webhook-signature": signature}
    standardwebhooks.Webhook(secret).verify(BODY, headers)


async def test_asymmetric_tokens_verify_by_the_shown_keys_through_a_rotation(pool: Pool) -> None:
    """The new key is shown before it signs, the old one until its last token has expired."""
    vault = Vault(MASTER_KEY, SIGNING_KEYS)
    sums = signing.checksums(BODY)

    async def verified(at: datetime) -> str:
        key = await signing_keys.signing_key(connection, vault, at)
        token = key.token(signing.issuer("https://gateway.example"), "organization", sums, now_s())
        shown = jwt.PyJWKSet.from_dict({"keys": await signing_keys.shown(connection, at)})
        kid = jwt.get_unverified_header(token)["kid"]
        claims = jwt.decode(token, shown[kid], algorithms=["ES256"])
        assert claims["iss"] == "https://gateway.example/data-connector"
        assert (claims["sub"], claims["checksum_sha256"]) == ("organization", sums.sha256)
        return str(kid)

    async with pool.acquire() as connection:
        now = datetime.now(UTC)
        first = await verified(now)
        assert await verified(now + timedelta(days=300)) == first
        second = await signing_keys.rotate(connection, vault)
        assert await verified(now + timedelta(minutes=1)) == first
        assert len(await signing_keys.shown(connection, now)) == 2
        later = now + timedelta(minutes=20)
        assert await verified(later) == second
        assert len(await signing_keys.shown(connection, later)) == 2
        assert len(await signing_keys.shown(connection, now + timedelta(hours=2))) == 1


@pytest.mark.parametrize("size", [16, 24, 31, 32, 64])
@pytest.mark.parametrize("prefix", ["", "whsec_"])
def test_a_secret_in_base64_is_decoded_as_the_reference_library_does(size: int, prefix: str) -> None:
    """As `openssl rand -base64 32` makes it, with or without the prefix."""
    secret = prefix + base64.b64encode(bytes(range(size))).decode()
    at_s = now_s()
    signature = signing.standard_signature([signing.standard_key(secret)], "c2s", at_s, BODY)
    headers = {"webhook-id": "c2s", "webhook-timestamp": str(at_s), "webhook-signature": signature}
    assert standardwebhooks.Webhook(secret).verify(BODY, headers) == json.loads(BODY)


@pytest.mark.parametrize("secret", ["", "whsec_", "plain text", "whsec_a", "YWJj-_==", "YWJjZA", "whpk_YWJj", "YWJj\n"])
def test_a_secret_that_some_reference_library_would_refuse_is_none(secret: str) -> None:
    """Plain text, the other alphabet, missing padding, a line break, nothing."""
    assert signing.decoded_secret(secret) is None
