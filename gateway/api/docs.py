"""The documentation page: the OpenAPI document drawn as one HTML page that needs nothing from elsewhere."""

import base64
import hashlib
from html import escape
from itertools import groupby
from typing import Any

from gateway.api.openapi import fields, inner_structs, type_name

JSON, FORM, STREAM = "application/json", "application/x-www-form-urlencoded", "text/event-stream"

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); --soft: color-mix(in srgb,
  currentColor 6%, transparent); }
* { box-sizing: border-box } body { margin: 0; font: 15px/1.55 system-ui, sans-serif }
nav { position: fixed; inset: 0 auto 0 0; width: 17rem; padding: 1.2rem; overflow: auto;
  border-right: 1px solid var(--line) }
nav a { display: block; color: inherit; text-decoration: none; padding: .1rem 0 }
nav a:hover { text-decoration: underline }
main { margin-left: 17rem; padding: 1.2rem 2rem 6rem; max-width: 60rem }
input { width: 100%; padding: .45rem .6rem; margin: .6rem 0; font: inherit; border: 1px solid var(--line);
  border-radius: 6px; background: transparent; color: inherit }
h1 { font-size: 1.5rem; margin: 0 } h2 { margin: 2.2rem 0 .4rem; font-size: 1.15rem; text-transform: capitalize }
details { border: 1px solid var(--line); border-radius: 8px; margin: .5rem 0 }
summary { padding: .5rem .8rem; cursor: pointer } summary code { font-weight: 600 }
details > div { padding: 0 1rem 1rem }
.method { display: inline-block; width: 4.2rem; font: 600 12px ui-monospace, monospace }
.GET { color: #2a7de1 } .POST { color: #1f9d55 } .PUT, .PATCH { color: #c77700 } .DELETE { color: #d64545 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .25rem .6rem .25rem 0;
  border-top: 1px solid var(--line); vertical-align: top } th { font-weight: 600; border: 0 }
pre { background: var(--soft); padding: .7rem .9rem; border-radius: 6px; overflow: auto; margin: .6rem 0 }
code, pre { font-family: ui-monospace, monospace; font-size: 13px } .who { float: right; opacity: .65; font-size: 13px }
@media (max-width: 50rem) { nav { position: static; width: auto; border: 0 } main { margin: 0; padding: 1rem } }
"""
_SCRIPT = """
const box = document.querySelector('input');
box.addEventListener('input', () => {
  const words = box.value.toLowerCase().split(/\\s+/);
  for (const call of document.querySelectorAll('details'))
    call.hidden = !words.every(word => call.dataset.words.includes(word));
  for (const part of document.querySelectorAll('section'))
    part.hidden = !part.querySelector('details:not([hidden])');
});
document.addEventListener('keydown', event => {
  if (event.key === '/' && document.activeElement !== box) { event.preventDefault(); box.focus(); }
});
const opened = () => { const call = document.getElementById(location.hash.slice(1)); if (call) call.open = true; };
addEventListener('hashchange', opened); opened();
"""


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_digest(_STYLE)}'; script-src 'sha256-{_digest(_SCRIPT)}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    known = document["components"]
    calls = [
        (operation["tags"][0], path, method.upper(), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    calls.sort(key=lambda call: (call[0], call[1], call[2]))
    sections, links = [], []
    for tag, group in groupby(calls, key=lambda call: call[0]):
        name = tag.replace(": ", "-").replace(" ", "-")
        links.append(f'<a href="#{escape(name)}">{escape(tag)}</a>')
        drawn = "".join(_call(path, method, operation, known) for _, path, method, operation in group)
        sections.append(f'<section id="{escape(name)}"><h2>{escape(tag)}</h2>{drawn}</section>')
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>fleetgate API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<nav><h1>fleetgate</h1><div>API {escape(info['version'])}</div>"
        '<input type="search" placeholder="Search ( / )" aria-label="Search the calls">'
        f'{"".join(links)}<p><a href="/openapi.json">openapi.json</a></p></nav>'
        f"<main><p>{_prose(info['description'])}</p>{''.join(sections)}</main><script>{_SCRIPT}</script></html>"
    )


def _call(path: str, method: str, operation: dict[str, Any], known: dict[str, Any]) -> str:
    components = known["schemas"]
    names = [name for option in operation.get("security", []) for name in option]
    who = " or ".join(names) or "no credential"
    parts = [f"<p>{_prose(operation.get('description', ''))}</p>" if "description" in operation else ""]
    parts += [f"<p>{escape(name)}: {_prose(known['securitySchemes'][name]['description'])}</p>" for name in names]
    parameters = [
        (item["name"], type_name(item["schema"], components), item["required"], f"in the {item['in']}")
        for item in operation["parameters"]
    ]
    parts.append(_table("Parameters", parameters))
    content = operation.get("requestBody", {}).get("content", {})
    parts.append(_body("Request", content, components))
    statuses = []
    for status, response in operation["responses"].items():
        answer = response.get("content", {})
        schemas = [media["schema"] for media in answer.values() if "schema" in media]
        shown = type_name(schemas[0], components) if schemas else ""
        statuses.append((status, shown, False, response["description"]))
        if status.startswith("2"):
            parts.append(_body("Answer", answer, components))
    parts.append(_table("Statuses", statuses))
    schemes = [known["securitySchemes"][name] for name in names]
    parts.append(f"<pre>{escape(_curl(path, method, operation, names, schemes, components))}</pre>")
    words = f"{method} {path} {operation['summary']}".lower()
    return (
        f'<details id="{escape(operation["operationId"])}" data-words="{escape(words)}"><summary>'
        f'<span class="who">{escape(who)}</span><span class="method {method}">{method}</span>'
        f"<code>{escape(path)}</code><br>{_prose(operation['summary'])}</summary><div>{''.join(parts)}</div></details>"
    )


def _body(title: str, content: dict[str, Any], components: dict[str, Any]) -> str:
    """What a body holds, with the structs that it is made of, whatever its media type is."""
    kinds = [kind for kind in content if kind != JSON]
    form = f" ({' or '.join(kinds)})" if kinds else ""
    schemas = [media["schema"] for media in content.values() if "schema" in media]
    if not schemas:
        return f"<p>{escape(title)}: bytes{escape(form)}</p>" if content else ""
    tables = [_table(f"{title}: {type_name(schemas[0], components)}{form}", fields(schemas[0], components))]
    inner = inner_structs(schemas[0], components)
    tables += [_table(name, fields(components[name], components)) for name in inner]
    return "".join(tables)


def _table(title: str, rows: list[tuple[str, str, bool, str]]) -> str:
    if not rows:
        return ""
    drawn = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if required else ''}<td>{escape(kind)}<td>{_prose(text)}"
        for name, kind, required, text in rows
    )
    return f"<table><tr><th colspan=3>{escape(title)}{drawn}</table>"


def _curl(
    path: str,
    method: str,
    operation: dict[str, Any],
    names: list[str],
    schemes: list[dict[str, Any]],
    components: dict[str, Any],
) -> str:
    """The call as a command, with variables for what the caller must fill in."""
    content = operation.get("requestBody", {}).get("content", {})
    answers = operation["responses"].values()
    streams = any(STREAM in response.get("content", ()) for response in answers)
    lines = [f'curl {"-N " if streams else ""}-X {method} "$URL{path.replace("{", "${")}"']
    if FORM in content:
        members = fields(content[FORM]["schema"], components)
        lines += [f'--data-urlencode "{name}=${name.upper()}"' for name, *_ in members]
    elif JSON in content:
        lines.append("-d @body.json")
    elif content:
        lines.append("--data-binary @body")
    shown = [_credential(name, scheme) for name, scheme in zip(names, schemes, strict=True)]
    if shown:
        lines.append("  # or ".join(shown))
    return " \\\n  ".join(lines)


def _credential(name: str, scheme: dict[str, Any]) -> str:
    """How curl is given the credential of a security scheme."""
    if scheme["type"] == "apiKey":
        return f'-H "{scheme["name"]}: ${name.upper()}_KEY"'
    if scheme["scheme"] == "basic":
        return '-u "$KEY_ID:$SECRET"'
    return '-H "Authorization: Bearer $TOKEN"'


def _prose(text: str) -> str:
    """Escaped text, with what stands between backquotes as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
