"""Access tokens of service accounts: signed by the gateway, good for an hour, and of no use once the key is gone."""

import hashlib
from collections.abc import Sequence
from typing import Any

import jwt

TOKEN_LIFE_S = 3600
AUDIENCE = "fleetgate"


def issue_token(master_key: str, account_id: str, key_id: str, now_s: int) -> str:
    """An access token for `TOKEN_LIFE_S` seconds."""
    claims = {"sub": account_id, "key": key_id, "aud": AUDIENCE, "iat": now_s, "exp": now_s + TOKEN_LIFE_S}
    return jwt.encode(claims, token_key(master_key), "HS256")


def read_token(master_key: str, token: str) -> str | None:
    """The key id of a good access token; None for any other."""
    claims = read_claims(token, token_key(master_key), audience=AUDIENCE, required=("sub", "key"))
    return claims["key"] if claims is not None and isinstance(claims["key"], str) else None


def read_claims(
    token: str,
    key: bytes | str,
    *,
    audience: str | list[str],
    required: Sequence[str],
    issuer: str | None = None,
    leeway_s: int = 0,
) -> dict[str, Any] | None:
    """The claims of a token that this key signed and that is good now, for `TOKEN_LIFE_S` at most; None for others."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            audience=audience,
            issuer=issuer,
            leeway=leeway_s,
            options={"require": [*required, "aud", "iat", "exp"]},
        )
    except (jwt.PyJWTError, TypeError, ValueError, OverflowError):  # times that are no times, which it passes to int()
        return None
    issued, expires = claims["iat"], claims["exp"]
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in (issued, expires)):
        return None
    return claims if issued >= 0 and expires - issued <= TOKEN_LIFE_S else None


def token_key(master_key: str) -> bytes:
    """What access tokens are signed with."""
    return hashlib.blake2b(key=bytes.fromhex(master_key), digest_size=32, person=b"fg access token").digest()
