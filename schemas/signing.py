"""How a webhook proves where it comes from and that nobody changed it: three signatures, each made for one attempt.

* ``X-Dt-Signature``: a JWT (HS256, by the connector's secret) over checksums of the body.
* ``DT-Asymmetric-Signature``: a JWT (ES256, by a key of ours that a public JWKS shows); the receiver holds no secret.
* ``webhook-id``, ``webhook-timestamp``, ``webhook-signature``: Standard Webhooks, by the connector's secret.

A token lives an hour from the attempt it was made for, since retries outlive any token of the first one. The tokens are
put together here: a general JWT library takes three times as long, on a path where microseconds count.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from schemas.ids import new_xid

TOKEN_LIFE_S = 3600
STANDARD_SECRET_PREFIX = "whsec_"  # noqa: S105
_P256_BYTES = 32


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _part(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE, b"=")


_HS256_HEADER = _part(b'{"alg":"HS256","typ":"JWT"}') + b"."


class Checksums(NamedTuple):
    """Of the raw body, in lower-case hex."""

    sha1: str
    sha256: str


def checksums(body: bytes) -> Checksums:
    """Both checksums of a body."""
    return Checksums(hashlib.sha1(body, usedforsecurity=False).hexdigest(), hashlib.sha256(body).hexdigest())


def symmetric_token(secret: bytes, sums: Checksums, now_s: int) -> str:
    """The value of ``X-Dt-Signature`` at this time (seconds since 1970)."""
    claims = (
        f'{{"checksum":"{sums.sha1}","checksum_sha256":"{sums.sha256}",'
        f'"iat":{now_s},"exp":{now_s + TOKEN_LIFE_S},"jti":"{new_xid()}"}}'
    )
    signed = _HS256_HEADER + _part(claims.encode())
    return (signed + b"." + _part(hmac.digest(secret, signed, "sha256"))).decode()


def decoded_secret(secret: str) -> bytes | None:
    """The bytes that the reference libraries of Standard Webhooks make of a secret: base64 behind an optional `whsec_`.

    None where some of them would refuse it: without padding, in the other alphabet, empty.
    """
    text = secret.removeprefix(STANDARD_SECRET_PREFIX)
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if decoded and base64.b64encode(decoded).decode() == text else None


def standard_key(secret: str) -> bytes:
    """The bytes that sign Standard Webhooks: those that the reference libraries take for the key, or its own."""
    return decoded_secret(secret) or secret.encode()


def standard_signature(keys: list[bytes], message_id: str, now_s: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one signature for each key, so that receivers of either accept it."""
    signed = f"{message_id}.{now_s}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)


class SigningKey:
    """A P-256 key and the name receivers find it by."""

    def __init__(self, key_id: str, private: ec.EllipticCurvePrivateKey) -> None:
        self.id = key_id
        self._private = private
        self._header = _part(msgspec.json.encode({"alg": "ES256", "kid": key_id, "typ": "JWT"})) + b"."

    def __repr__(self) -> str:
        return f"<SigningKey {self.id}>"

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new key."""
        return cls(new_xid(), ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def read(cls, key_id: str, private: bytes) -> "SigningKey":
        """The key that `private_bytes` wrote."""
        key = serialization.load_der_private_key(private, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(key_id, key)

    def private_bytes(self) -> bytes:
        """PKCS #8, not encrypted."""
        return self._private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public_jwk(self) -> dict[str, str]:
        """The public half, as a JWKS lists it."""
        numbers = self._private.public_key().public_numbers()
        x, y = (_part(number.to_bytes(_P256_BYTES)).decode() for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y}

    def sign(self, claims: dict[str, Any]) -> str:
        """A JWT with these claims."""
        signed = self._header + _part(msgspec.json.encode(claims))
        r, s = decode_dss_signature(self._private.sign(signed, ec.ECDSA(hashes.SHA256())))
        return (signed + b"." + _part(r.to_bytes(_P256_BYTES) + s.to_bytes(_P256_BYTES))).decode()

    def token(self, issuer: str, organization_id: str, sums: Checksums, now_s: int) -> str:
        """The value of ``DT-Asymmetric-Signature`` at this time (seconds since 1970)."""
        return self.sign(
            {
                "iss": issuer,
                "sub": organization_id,
                "checksum_sha256": sums.sha256,
                "iat": now_s,
                "exp": now_s + TOKEN_LIFE_S,
                "jti": new_xid(),
            }
        )


def issuer(public_url: str) -> str:
    """The issuer of our asymmetric tokens; its discovery document lies below it."""
    return f"{public_url}/data-connector"
