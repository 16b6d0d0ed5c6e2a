"""Gets tokens from a vendor, keeps and renews them, and makes the steps that are due behind each.

A refresh token may be good for a single use, so an exchange that has begun is finished, and what it brought is kept,
even if the run is cancelled meanwhile. What an error says never holds a secret.
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec
from yarl import URL

from schemas import times
from schemas.cloud import Credentials
from schemas.manifests.authentication import AuthorizationCode, ClientCredentials, Login, Step
from schemas.manifests.texts import filled, filled_json
from workers.importer import decoding, requests
from workers.importer.expressions import getter
from workers.importer.requests import Raw, Requests, VendorError

TokenKind: TypeAlias = Login | ClientCredentials | AuthorizationCode

TOKEN_LIFE_S = 3600.0
"""Of a token that does not say."""
TOKEN_LIFE_MAX_S = 365 * 86400.0
MOMENT_FROM = 10**9
"""A life this long is the moment at which it ends, in seconds or milliseconds since 1970."""
RENEW_S = 60.0
"""A token is renewed this long before it expires; one that lives less than twice as long, in the middle of its life."""
_JSON = {"Accept": "application/json"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_T = TypeVar("_T")


class Tokens:
    """One connector's token. `keep` is given the credentials whenever they changed.

    `values` are what texts of the manifest are filled with; what steps find is added to them. `address` makes a path of
    the manifest a URL.
    """

    def __init__(
        self,
        kind: TokenKind,
        values: dict[str, str],
        credentials: Credentials,
        requests: Requests,
        keep: Callable[[Credentials], Awaitable[None]],
        address: Callable[[str], str],
    ) -> None:
        self._kind = kind
        self._values = values
        self._credentials = credentials
        self._requests = requests
        self._keep = keep
        self._address = address
        self._steps: dict[str, str] = {}
        self._note(credentials.found or {})

    def __repr__(self) -> str:
        return f"<Tokens {type(self._kind).__name__}>"

    @property
    def renewable(self) -> bool:
        """Whether a token that was refused can be followed by another."""
        return not isinstance(self._kind, AuthorizationCode) or bool(self._credentials.refresh_token)

    def expire(self) -> None:
        """The token was refused: the next request gets another."""
        self._credentials.expires_at = 0.0
        self._credentials.access_token = ""

    async def prepare(self) -> None:
        """See that there is a token, and that the steps behind it were made. Raises VendorError."""
        known = self._credentials
        kept = bool(known.access_token) and time.time() < known.expires_at - RENEW_S
        if not kept:
            await self._get_token(self._kind)
        # What a manifest of before has found may not be what this one needs.
        needed = {name for step in self._kind.steps for name in step.values}
        if not self._kind.steps or (known.found is not None and needed <= known.found.keys()):
            return
        try:
            await self._make_steps(self._kind.steps)
        except VendorError as error:
            if error.status != 401 or not kept or not self.renewable:
                raise
            await self._get_token(self._kind)
            await self._make_steps(self._kind.steps)

    def header(self) -> dict[str, str]:
        """The header that takes the token."""
        return {self._kind.header: header_value(self._kind.value, self._known())}

    def _note(self, found: dict[str, str]) -> None:
        self._steps |= found
        self._values |= {name: value for name, value in found.items() if name != "token"}

    def _known(self) -> dict[str, str]:
        """Behind the token `{token}` is that, whatever else has this name."""
        return self._values | {"token": self._credentials.access_token} | self._steps

    async def _get_token(self, kind: TokenKind) -> None:
        method, url, headers, data = self._asking(kind)

        async def exchange() -> Raw:
            raw = await self._requests.once(method, self._requests.target(url, {}), headers, data)
            if 200 <= raw.status < 300:
                await self._keep_token(raw, kind)
            return raw

        try:
            await self._requests.patiently(method, url, lambda: _to_the_end(exchange()))
        except VendorError as error:
            # By RFC 6749 a refused grant is 400.
            refused = error.unauthorized or error.status == 400
            sentence = str(error) if str(error).startswith("The token") else f"No token: {error}"
            raise VendorError(
                sentence,
                unauthorized=refused,
                retry_after_s=error.retry_after_s,
                words=error.words,
            ) from None

    def _asking(self, kind: TokenKind) -> tuple[str, str, dict[str, str], bytes | None]:
        """The request for a token: method, URL, headers and body."""
        values = self._values
        if isinstance(kind, Login):
            headers = _JSON | {name: filled(text, values) for name, text in kind.headers.items()}
            query = {name: filled(text, values) for name, text in kind.query.items()}
            url = str(URL(self._address(kind.path)).update_query(query)) if query else self._address(kind.path)
            if kind.form:
                form = {name: filled(text, values) for name, text in kind.form.items()}
                return kind.method, url, _FORM | headers, urlencode(form).encode()
            return (kind.method, url, *_json(headers, kind.body, values))
        form = {"grant_type": "client_credentials"}
        if isinstance(kind, AuthorizationCode):
            form = self._grant()
        elif kind.scope:
            form["scope"] = kind.scope
        form |= {name: filled(value, values) for name, value in kind.parameters.items()}
        client = {name: filled(getattr(kind, name), values) for name in ("client_id", "client_secret")}
        headers = _JSON | _FORM
        if kind.client == "basic":
            headers["Authorization"] = basic(*client.values())
        else:
            form |= client
        return "POST", filled(kind.token_url, values), headers, urlencode(form).encode()

    def _grant(self) -> dict[str, str]:
        known = self._credentials
        if known.code:
            form = {"grant_type": "authorization_code", "code": known.code, "redirect_uri": known.redirect_uri}
            return form | {"code_verifier": known.verifier}
        if known.refresh_token:
            return {"grant_type": "refresh_token", "refresh_token": known.refresh_token}
        raise VendorError("The consent has ended: authenticate again", unauthorized=True)

    async def _keep_token(self, raw: Raw, kind: TokenKind) -> None:
        known = self._credentials
        token, life, refresh = _token_of(raw, kind)
        if not token:
            raise VendorError("The token endpoint answered without a token", unauthorized=True)
        known.access_token, known.code, known.verifier = token, "", ""
        known.refresh_token = refresh or known.refresh_token
        life_s = _life_s(life)
        known.expires_at = time.time() + max(life_s, RENEW_S + life_s / 2)
        known.found = None
        self._steps.clear()
        await self._keep(known)

    async def _make_steps(self, steps: tuple[Step, ...]) -> None:
        """What is to be asked between a token and the list."""
        found: dict[str, str] = {}
        for number, step in enumerate(steps, 1):
            try:
                found |= await self._make_step(step)
            except VendorError as error:
                raise VendorError(
                    f"Step {number} behind the token: {error}",
                    status=error.status,
                    unauthorized=error.unauthorized,
                    retry_after_s=error.retry_after_s,
                    words=error.words,
                ) from None
            self._note(found)
        self._credentials.found = found
        await self._keep(self._credentials)

    async def _make_step(self, step: Step) -> dict[str, str]:
        values = self._known()
        headers = _JSON | {name: filled(text, values) for name, text in step.headers.items()}
        headers, data = _json(headers, step.body, values)
        query = {name: filled(text, values) for name, text in step.query.items()}
        url = self._address(step.path)

        async def attempt() -> Raw:
            target = self._requests.target(url, query)
            return await self._requests.once(step.method, target, headers | self.header(), data)

        raw = await self._requests.patiently(step.method, url, attempt)
        if not step.values:
            return {}
        body = requests.decoded(raw, step.method, url).body
        found = {name: _text(getter(expression)(body)) for name, expression in step.values.items()}
        for name, value in found.items():
            if not value:
                raise VendorError(f"the vendor's answer has no {name} at `{step.values[name]}`")
        return found


def header_value(text: str, values: dict[str, str]) -> str:
    """A header's text, filled in. Raises VendorError where no header can hold it."""
    value = filled(text, values)
    if not value.isprintable():
        raise VendorError("A credential has characters that no header can hold", unauthorized=True)
    return value


def basic(user: str, password: str) -> str:
    """HTTP basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _token_of(raw: Raw, kind: TokenKind) -> tuple[str, Any, str]:
    """A token, its life, and what renews it, as an answer tells them; nothing where it does not."""
    try:
        body = decoding.decode(raw.body, raw.headers.get("Content-Type", ""))
    except ValueError:
        body = None
    if isinstance(kind, AuthorizationCode):
        members = body if isinstance(body, dict) else {}
        return (
            _text(members.get("access_token")),
            members.get("expires_in"),
            _text(members.get("refresh_token")),
        )
    life = getter(kind.lifetime)(body) if kind.lifetime else None
    if isinstance(kind, Login) and kind.token_header:
        return raw.headers.get(kind.token_header, "").removeprefix("Bearer ").strip(), life, ""
    return _text(getter(kind.token or "@")(body)), life, ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


def _life_s(value: Any) -> float:
    """For how many seconds a token is good, by whatever the vendor says: seconds, or the moment at which it ends."""
    try:
        if isinstance(value, str) and not value.strip().replace(".", "", 1).isdecimal():
            value = times.of_text(value).timestamp()
        number = float(value) if isinstance(value, str | int | float) else TOKEN_LIFE_S
        if number >= MOMENT_FROM:
            number = max((times.of_number(number) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, OverflowError):
        return TOKEN_LIFE_S
    return number if 0 <= number <= TOKEN_LIFE_MAX_S else TOKEN_LIFE_S


def _json(
    headers: dict[str, str], body: dict[str, Any] | None, values: dict[str, str]
) -> tuple[dict[str, str], bytes | None]:
    """Headers and content of a request with a body of JSON, if it has one."""
    if body is None:
        return headers, None
    return {"Content-Type": "application/json"} | headers, msgspec.json.encode(filled_json(body, values))


async def _to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Finish it even if whoever waits is cancelled; that then goes on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break  # it is raised below
    if cancelled is not None and not task.cancelled():
        task.exception()
        raise cancelled
    return task.result()
