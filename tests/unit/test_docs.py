"""What the documentation shows is so."""

import hashlib
import re
from pathlib import Path

import jwt

from gateway.cli.simulated.receiver import verified
from schemas.signing import checksums, symmetric_token

PAGE = (Path(__file__).parent.parent.parent / "docs" / "receivers.md").read_text()


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
