"""How the pages behind links look. They hold no script and nothing from elsewhere."""

import base64
import hashlib

from starlette.responses import HTMLResponse, Response

_STYLE = """
:root { color-scheme: light dark } body { font: 16px/1.5 system-ui, sans-serif; max-width: 30rem; margin: 12vh auto;
  padding: 0 1rem } h1 { font-size: 1.3rem } label { display: block; margin: 1rem 0 .2rem; font-weight: 600 }
input { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem .6rem; border: 1px solid #8888;
  border-radius: 6px } small { opacity: .7 } button { font: inherit; margin-top: 1.4rem; padding: .5rem 1.2rem;
  border: 0; border-radius: 6px; background: #2a7de1; color: #fff; cursor: pointer } .wrong { color: #d64545 }
"""
_POLICY = (
    "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    # To ourselves a browser says where a form comes from, to others nothing.
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}


def page_of(title: str, body: str, status: int) -> Response:
    """A page; title and body are HTML."""
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1><div>{body}</div></html>",
        status,
        HEADERS,
    )
