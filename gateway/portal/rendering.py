"""Templates to pages: what every template may use, and the headers that every page has."""

import functools
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.api.dialects import UNCACHED
from gateway.organization.histories import moment_of
from gateway.portal import navigation, static
from gateway.portal.forms import TOKEN
from gateway.portal.visitor import Visitor
from gateway.refusals import DoesNotFit
from gateway.services import Services
from schemas.times import aware

TEMPLATES = Path(__file__).parent / "templates"
SAID = "fleetgate-said"
"""The cookie that carries a sentence over a redirect, to the next page: what was done."""
THEME = "fleetgate-theme"
_THEMES = ("light", "dark")
_SAID_CHARACTERS_MAX = 500
SECURITY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), geolocation=(), microphone=(), payment=(), usb=()",
}
HEADERS = {**SECURITY, **UNCACHED, "vary": "cookie, hx-request"}


class View(Struct, frozen=True):
    """What a page shows: a template and what it is given."""

    template: str
    values: Mapping[str, Any] = {}
    status: int = 200
    leads_elsewhere: bool = False
    """Whether its form may be answered by leading on to another site."""


def url(prefix: str, *segments: Any, **query: Any) -> str:
    """The address of a page: `url("/devices", device.id, tab="history")`. Empty members of the query are left out."""
    first, *others = segments
    path = prefix + first + "".join(f"/{quote(str(one), safe='')}" for one in others)
    given = {name.rstrip("_"): _worded(value) for name, value in query.items() if value not in (None, "", [], ())}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def redirect(services: Services, *segments: Any, said: str = "", **query: Any) -> Response:
    """Lead on to a page, which begins with what was done."""
    path = url(prefix_of(services), *segments, **query)
    response = RedirectResponse(path, 303, HEADERS)
    if said:
        kept = quote(said[:_SAID_CHARACTERS_MAX])
        response.set_cookie(SAID, kept, max_age=60, path=prefix_of(services) or "/", httponly=True, samesite="lax")
    return response


def rendered(request: Request, view: View, visitor: Visitor, form_token: str, **more: Any) -> Response:
    """The page. `more` are further values that any template may use."""
    services: Services = request.state.services
    said = unquote(request.cookies.get(SAID, ""))[:_SAID_CHARACTERS_MAX]
    template = environment(prefix_of(services)).get_template(view.template)
    theme = request.cookies.get(THEME, "")
    values = {
        "visitor": visitor,
        "navigation": navigation.of(visitor),
        "path": request.url.path,
        "query": request.query_params,
        "form_token": form_token,
        "form_token_field": TOKEN,
        "theme": theme if theme in _THEMES else "",
        "said": said,
        "now": services.clock(),
        **more,
        **view.values,
    }
    page = template.render(values, current=navigation.current(values["navigation"], request.url.path))
    response = HTMLResponse(page, view.status, HEADERS)
    if view.leads_elsewhere:
        policy = HEADERS["content-security-policy"]
        response.headers["content-security-policy"] = policy.replace("form-action 'self'", "form-action 'self' https:")
    if said:
        response.delete_cookie(SAID, path=prefix_of(services) or "/")
    return response


def prefix_of(services: Services) -> str:
    """The path below which people call the gateway: that of the public URL, which a proxy takes off."""
    return urlsplit(services.url).path.rstrip("/")


@functools.cache
def environment(prefix: str) -> Environment:
    """The templates, for one path prefix."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {
        "url": functools.partial(url, prefix),
        "asset": lambda name: f"{prefix}{static.address(name)}",
        "here": _here(prefix),
    }
    made.filters |= {
        "lasting": _lasting,
        "local": _local,
        "moment": _of_seconds,
        "iso": _iso,
        "utc": _utc,
        "zip_with": zip,
        "count": _count,
        "json": _json,
        "prose": _prose,
        "value": _value,
    }
    return made


def _here(prefix: str) -> Callable[..., str]:
    """This page with another state: `here(page=2)`; None takes a parameter away."""

    @pass_context
    def here(context: Context, **changes: Any) -> str:
        query: dict[str, Any] = {}
        for name, value in context["query"].multi_items():
            query.setdefault(name, []).append(value)
        return url(prefix, context["path"], **(query | changes))

    return here


def _worded(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return _iso(value)
    return [_worded(one) for one in value] if isinstance(value, list | tuple) else str(value)


def _moment(value: datetime | str) -> datetime:
    """A time, which some APIs answer as a text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _iso(value: datetime | str) -> str:
    return _moment(value).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(value: datetime | str) -> str:
    return _moment(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _count(value: int) -> str:
    """A number with thin spaces between its thousands."""
    return f"{value:,}".replace(",", "\u202f")


def _prose(text: str) -> Markup:
    """A sentence of the documentation, with what stands between backquotes as code."""
    parts = str(escape(text)).split("`")
    return Markup("".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts)))  # noqa: S704


def _value(value: Any) -> str:
    """A value of telemetry or of a parameter, as people read it in a line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _local(value: datetime | str | None) -> str:
    """A time, as an API takes it, as a field of a form has it in UTC; "" for none, and for what is none."""
    if isinstance(value, str):
        try:
            value = moment_of("", value)
        except DoesNotFit:
            return ""
    return "" if value is None else aware(value).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _of_seconds(value: float) -> datetime:
    return datetime.fromtimestamp(value, UTC)


def _lasting(seconds: float) -> str:
    """How long something takes, in the largest units that tell: 40 s, 3 min, 2 h 5 min, 4 days."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        hours, minutes = whole // 3600, whole % 3600 // 60
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return "1 day" if whole < 2 * 86400 else f"{whole // 86400} days"


def _json(value: Any) -> str:
    """JSON as people read it."""
    return json.dumps(value, ensure_ascii=False, indent=2)
