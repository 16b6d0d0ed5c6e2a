"""ID tokens: what an identity provider says of a person, believed only when all about it is right.

Signed by one of the provider's keys with an algorithm of ours (never `none`, never a shared secret), made by this
provider, for this client and for this attempt to sign in, and not expired.
"""

from typing import Any

import jwt
from msgspec import Struct

from schemas.constant_time import same_text

ALGORITHMS = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "ES256": "EC",
    "ES384": "EC",
    "ES512": "EC",
}
"""Signatures that are taken, with the kind of key that each is made with."""
LEEWAY_S = 60
"""How far the provider's clock may be off."""
_REQUIRED = ["iss", "sub", "aud", "exp", "iat"]


class NotGenuine(Exception):
    """A token must not be believed; the text says why, for the log."""


class Expected(Struct, frozen=True):
    """What a token must say."""

    issuer: str
    client_id: str
    nonce: str


def verify(token: str, keys: dict[str, Any], expected: Expected) -> dict[str, Any]:
    """The claims of a token. `keys` is the provider's JSON Web Key Set. Raises NotGenuine."""
    try:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise NotGenuine("the algorithm of its signature is not accepted")
        claims: dict[str, Any] = jwt.decode(
            token,
            _key(keys, header.get("kid"), algorithm).key,
            algorithms=[algorithm],
            issuer=expected.issuer,
            audience=expected.client_id,
            leeway=LEEWAY_S,
            options={"require": _REQUIRED},
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise NotGenuine(str(error)) from error
    party = claims.get("azp")
    if party != expected.client_id and (party is not None or (type(claims["aud"]) is list and len(claims["aud"]) > 1)):
        raise NotGenuine("it was made for another party (azp)")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not same_text(nonce, expected.nonce):
        raise NotGenuine("it was made for another attempt (nonce)")
    return claims


def _key(keys: dict[str, Any], key_id: Any, algorithm: str) -> jwt.PyJWK:
    """The one key that a token says it was signed with, or the only one that can have been."""
    fitting = [
        key
        for key in jwt.PyJWKSet.from_dict(keys).keys
        if key.key_type == ALGORITHMS[algorithm]
        and key.public_key_use in (None, "sig")
        and (key_id is None or key.key_id == key_id)
    ]
    if len(fitting) != 1:
        raise NotGenuine(f"{len(fitting)} keys of the provider may have signed it")
    return fitting[0]
