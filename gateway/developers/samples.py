"""A call as its reader would write it: for a shell, in Python, in JavaScript. Keys stay in the environment."""

import json
import pprint
import textwrap
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

LANGUAGES: Mapping[str, str] = {"curl": "curl", "python": "Python", "javascript": "JavaScript"}
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
KEYS = {"device": "ACCESS_KEY", "organization": "ORGANIZATION_KEY", "partner": "PARTNER_KEY"}
"""What the environment has for each kind of caller that is known by one header; accounts have `KEY_ID` and `SECRET`."""


class Sample(Struct, frozen=True):
    """What a sample needs to know of a call."""

    method: str
    url: str
    scheme: str
    """Of the caller; empty for none."""
    media_type: str
    body: Any
    """What is sent: JSON, a form's fields, or None; bytes come from a file."""
    endless: bool = False


def of(call: Sample) -> dict[str, str]:
    """The samples, by language."""
    return {"curl": _curl(call), "python": _python(call), "javascript": _javascript(call)}


def _curl(call: Sample) -> str:
    lines = [f'curl{" -N" if call.endless else ""} -X {call.method} "{call.url}"']
    if call.scheme == "account":
        lines.append('-u "$KEY_ID:$SECRET"')
    elif call.scheme:
        lines.append(f'-H "Authorization: ${KEYS[call.scheme]}"')
    if call.media_type == FORM:
        lines += [f"--data-urlencode {_quoted(f'{name}={value}')}" for name, value in call.body.items()]
    elif call.media_type == JSON:
        lines += [f'-H "Content-Type: {JSON}"', f"-d {_quoted(_json(call.body))}"]
    elif call.media_type:
        lines.append("--data-binary @file.bin")
    return " \\\n  ".join(lines)


def _python(call: Sample) -> str:
    given = []
    if call.scheme == "account":
        given.append('auth=(os.environ["KEY_ID"], os.environ["SECRET"]),')
    elif call.scheme:
        given.append(f'headers={{"Authorization": os.environ["{KEYS[call.scheme]}"]}},')
    if call.media_type in (JSON, FORM):
        name = "json" if call.media_type == JSON else "data"
        given.append(
            f"{name}={textwrap.indent(pprint.pformat(call.body, width=100, sort_dicts=False), '    ').lstrip()},"
        )
    elif call.media_type:
        given.append('data=open("file.bin", "rb"),')
    given.append("stream=True," if call.endless else "timeout=30,")
    lines = ["import os", "", "import requests", ""] if call.scheme else ["import requests", ""]
    lines.append(f'answer = requests.request("{call.method}", "{call.url}",')
    lines += [f"    {one}" for one in given]
    lines += [")", "answer.raise_for_status()"]
    lines += (
        ["for line in answer.iter_lines():", "    print(line.decode())"] if call.endless else ["print(answer.text)"]
    )
    return "\n".join(lines)


def _javascript(call: Sample) -> str:
    headers = []
    if call.scheme == "account":
        headers.append("Authorization: `Basic ${btoa(`${process.env.KEY_ID}:${process.env.SECRET}`)}`,")
    elif call.scheme:
        headers.append(f"Authorization: process.env.{KEYS[call.scheme]},")
    body = ""
    if call.media_type == JSON:
        headers.append(f'"Content-Type": "{JSON}",')
        body = f"body: JSON.stringify({textwrap.indent(_json(call.body), '  ').lstrip()}),"
    elif call.media_type == FORM:
        body = f"body: new URLSearchParams({textwrap.indent(_json(call.body), '  ').lstrip()}),"
    elif call.media_type:
        headers.append(f'"Content-Type": "{call.media_type}",')
        body = 'body: await readFile("file.bin"),'
    lines = ['import { readFile } from "node:fs/promises";', ""] if "readFile" in body else []
    lines += [f'const answer = await fetch("{call.url}", {{', f'  method: "{call.method}",']
    if headers:
        lines += ["  headers: {", *(f"    {one}" for one in headers), "  },"]
    if body:
        lines.append(f"  {body}")
    lines += ["});", "if (!answer.ok) throw new Error(await answer.text());"]
    if call.endless:
        return "\n".join([*lines, "for await (const part of answer.body) process.stdout.write(part);"])
    return "\n".join([*lines, "console.log(await answer.text());"])


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _quoted(text: str) -> str:
    """In single quotes, for a shell."""
    return "'" + text.replace("'", "'\\''") + "'"
