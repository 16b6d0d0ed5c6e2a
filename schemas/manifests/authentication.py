"""How vendors' clouds want requests to be proven: what `[authentication]` of a manifest can say."""

from typing import Any, Literal

from msgspec import Struct

from schemas.manifests.texts import Expression, Filled, Word


class ApiKey(Struct, tag="api_key", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """A header of its own."""

    header: str
    value: Filled


class Basic(Struct, tag="basic", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """HTTP basic authentication."""

    user: Filled
    password: Filled


class Bearer(Struct, tag="bearer", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """A token that lives long."""

    token: Filled


class Hmac(Struct, tag="hmac", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """Each request is signed (RFC 2104): `text` is what is signed, `headers` what is sent, with `{signature}`.

    Both know of the request `{method}`, `{path}`, `{query}` (without the question mark), `{body}`, `{body_sha256}` (in
    hex), `{host}`, `{timestamp}` and `{timestamp_ms}` (since 1970), `{date}` (of HTTP) and `{nonce}`.
    """

    secret: Filled
    text: Filled
    headers: dict[str, Filled]
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    secret_encoding: Literal["text", "hex", "base64"] = "text"  # noqa: S105 (a coding)


class Step(Struct, forbid_unknown_fields=True, frozen=True):
    """A request that is made once behind each new token. What `values` finds in its answer is `{name}` from then on;
    `token` takes the place of the token."""

    path: Filled
    method: Literal["GET", "POST", "PUT", "PATCH"] = "GET"
    query: dict[str, Filled] = {}
    headers: dict[str, Filled] = {}
    body: dict[str, Any] | None = None
    values: dict[Word, Expression] = {}


class Token(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What all have that get a token first: the header that takes it, and steps between it and the list."""

    header: str = "Authorization"
    value: Filled = "Bearer {token}"
    steps: tuple[Step, ...] = ()


class Login(Token, tag="login", tag_field="kind", kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A request of the vendor's own that brings a token: in its answer (JMESPath) or in a header of that.

    It sends `body` as JSON, or `form`. `lifetime` is seconds, or when the token ends; without it an hour.
    """

    path: Filled
    method: Literal["GET", "POST", "PUT"] = "POST"
    query: dict[str, Filled] = {}
    headers: dict[str, Filled] = {}
    body: dict[str, Any] | None = None
    form: dict[str, Filled] = {}
    token: Expression | None = None
    token_header: str = ""
    lifetime: Expression | None = None


class ClientCredentials(
    Token, tag="client_credentials", tag_field="kind", kw_only=True, frozen=True, forbid_unknown_fields=True
):
    """OAuth 2.0 client credentials (RFC 6749, section 4.4). `client` says where id and secret go."""

    token_url: Filled
    client_id: Filled = "{client_id}"
    client_secret: Filled = "{client_secret}"  # noqa: S105 (a place)
    scope: str = ""
    client: Literal["basic", "body"] = "basic"
    parameters: dict[str, Filled] = {}
    token: Expression = "access_token"  # noqa: S105 (a place)
    lifetime: Expression = "expires_in"
    """Where in the answer the token is, and for how many seconds it is good, or when it ends."""


class AuthorizationCode(
    Token, tag="authorization_code", tag_field="kind", kw_only=True, frozen=True, forbid_unknown_fields=True
):
    """OAuth 2.0 authorization code with refresh (RFC 6749, sections 4.1 and 6) and PKCE (RFC 7636)."""

    authorize_url: Filled
    token_url: Filled
    client_id: Filled = "{client_id}"
    client_secret: Filled = "{client_secret}"  # noqa: S105 (a place)
    scope: str = ""
    client: Literal["basic", "body"] = "body"
    parameters: dict[str, Filled] = {}


Authentication = ApiKey | Basic | Bearer | Hmac | Login | ClientCredentials | AuthorizationCode
