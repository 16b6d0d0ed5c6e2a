"""Access tokens of service accounts: signed by the gateway, good for an hour, and of no use once the key is gone."""

import hashlib

import jwt

TOKEN_LIFE_S = 3600
AUDIENCE = "fleetgate"


def issue_token(master_key: str, account_id: str, key_id: str, now_s: int) -> str:
    """An access token for `TOKEN_LIFE_S` seconds."""
    claims = {"sub": account_id, "key": key_id, "aud": AUDIENCE, "iat": now_s, "exp": now_s + TOKEN_LIFE_S}
    return jwt.encode(claims, token_key(master_key), "HS256")


def read_token(master_key: str, token: str) -> str | None:
    """The key id of a good access token; None for any other."""
    try:
        claims = jwt.decode(
            token,
            token_key(master_key),
            algorithms=["HS256"],
            audience=AUDIENCE,
            options={"require": ["sub", "key", "aud", "iat", "exp"]},
        )
    except jwt.PyJWTError:
        return None
    if claims["exp"] - claims["iat"] > TOKEN_LIFE_S or not isinstance(claims["key"], str):
        return None
    return str(claims["key"])


def token_key(master_key: str) -> bytes:
    """What access tokens are signed with."""
    return hashlib.blake2b(key=bytes.fromhex(master_key), digest_size=32, person=b"fg access token").digest()
